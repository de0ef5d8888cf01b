"""`danqing lineage`: the same words by every family, on one sheet."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from danqing.core.errors import BadBrief
from danqing.core.files import check_writable, replacing
from danqing.interfaces.cli.models import card_of
from danqing.interfaces.cli.paint import SEEDS, tell_dropped
from danqing.interfaces.cli.places import places_for
from danqing.interfaces.cli.tables import parted
from danqing.weights.shipped import shipped


def lineage(
    prompt: Annotated[list[str], typer.Argument(help="What to paint, in English or Chinese.")],
    models: Annotated[
        str | None, typer.Option(help="Only these, separated by commas. [default: all that are shipped]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=SEEDS - 1, help="The same for all.")] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="The sheet: a file or a folder/.")] = None,
    singles: Annotated[
        Path | None, typer.Option(help="Also save each picture into this folder, as it was painted.")
    ] = None,
) -> None:
    """Paint the same words with every generation of the idea, from GAN to Imagen, side by side.

    Under each picture stand its year, paper, time and CLIP score, and how words reach a family that cannot
    read them.

    [b]Examples[/b]

    danqing lineage "a red apple"

    danqing lineage "一只猫" --models gan,ddpm,stickers --seed 7
    """
    words = " ".join(prompt)
    asked = list(shipped()) if models is None else parted(models)
    for name in asked:
        card_of(name)  # an unknown one is told before seconds of opening
    if not words.strip():
        raise BadBrief('say what to paint: danqing lineage "a red apple"')
    if models is not None and not asked:
        raise BadBrief(f"models {models!r} names none: give some, separated by commas, or leave it out")
    if not asked:
        raise BadBrief("no models are shipped with this copy: name folders of weights with --models")
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    [place] = places_for(out, f"{words} lineage", [seed]).pictures
    if singles is not None:
        check_writable(singles / f"{seed}.png")

    from danqing.apps.lineage import lineage as app
    from danqing.apps.lineage import sheet

    def watch(name: str) -> None:
        typer.echo(f"painting with {name}", err=True)

    generations = app(words, models=asked, watch=watch, seed=seed)
    for one in generations:
        typer.echo("  ".join(one.label), err=True)
        tell_dropped([one.picture])
        if singles is not None:
            typer.echo(one.picture.save(singles / f"{one.card.year}-{one.card.name}-{seed}.png"))
    with replacing(place) as draft:
        sheet(generations).save(draft)
    typer.echo(place)
