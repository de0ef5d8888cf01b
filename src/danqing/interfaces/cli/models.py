"""`danqing models`, and the cards that can be read without opening a model."""

from __future__ import annotations

import json
from pathlib import Path

from danqing.core.card import Card
from danqing.core.errors import BadBrief, BadWeights
from danqing.weights.shipped import shipped, unknown_model


def card_of(model: str) -> Card | None:
    """The card of a shipped model or a folder of weights, without importing torch.

    None if there is none, as in folders of other programs and for a single file.

    Raises:
        BadBrief: no such model, folder or file. BadWeights: the card cannot be read.
    """
    folder = shipped().get(model, Path(model).expanduser())
    if not folder.exists():
        raise BadBrief(unknown_model(model))
    return read_card(folder) if (folder / "card.json").exists() else None


def read_card(folder: Path) -> Card:
    """The card in a folder of weights.

    Raises:
        BadWeights: it cannot be read, or is not a card.
    """
    path = folder / "card.json"
    try:
        return Card.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):  # pydantic's ValidationError is a ValueError
        raise BadWeights(
            f"{str(path)!r} is not a model's card: restore it from where the model came from"
        ) from None


def models() -> None:
    """List the models that came with danqing and what each can paint.

    A folder of weights, or one file, can be used too: danqing paint "a cat" --model PLACE
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    known = shipped()
    if not known:
        console.print("no models are shipped with this copy; paint with --model FOLDER")
    for name, folder in known.items():
        console.print(name, style="bold")
        for label, value in _facts(read_card(folder)).items():
            console.print(f"  {label:<9} {value}")


def _facts(card: Card) -> dict[str, str]:
    size = f"{card.width * card.scale}x{card.height * card.scale}"
    native = f" ({card.width}x{card.height} enlarged {card.scale} times)" if card.scale > 1 else ""
    return {
        "paints": card.summary,
        "size": f"{size}{native}, sides in steps of {card.grid * card.scale}",
        "steps": " of ".join(filter(None, (str(card.steps), card.sampler))) + f", guidance {card.guidance:g}",
        "fast": f"{card.fast.steps} steps, guidance {card.fast.guidance:g}" if card.fast else "no",
        "led by": card.led_by,
        "can": ", ".join(sorted(card.can)),
        "styles": "; ".join(f"{name} ({words})" for name, words in card.styles.items()) or "none",
        "licence": card.licence,
        "paper": f"arXiv {card.paper} ({card.family}, {card.year})",
    }
