"""`danqing models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from danqing.core.card import Card, read_card
from danqing.core.errors import BadBrief
from danqing.data.vocabulary import vocabulary
from danqing.weights.shipped import shipped

if TYPE_CHECKING:
    from rich.console import Console


def models(
    words: Annotated[
        str, typer.Option(help="List the things that this model has learned, in English and Chinese.")
    ] = "",
) -> None:
    """List the models that came with danqing and what each can paint.

    A folder of weights, or one file, can be used too: danqing paint "a cat" --model PLACE
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    if words:
        _list_things(words, console)
    else:
        _list_models(console)


def _list_things(model: str, console: Console) -> None:
    names = [name for name, folder in shipped().items() if read_card(folder).closed_vocabulary]
    if model not in names:
        raise BadBrief(
            f"--words {model}: there is no list of what it has learned; there is of {', '.join(names)}"
        )
    for thing, chinese in vocabulary().items():
        console.print(f"{thing} {chinese}")


def _list_models(console: Console) -> None:
    folders = shipped()
    if not folders:
        console.print("no models are shipped with this copy; paint with --model FOLDER")
    for name, folder in folders.items():
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
