"""`danqing imagine` and `danqing reroll`: the grid of four, and another like it."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Any

import typer

from danqing.core.errors import BadPicture
from danqing.core.sources import read_source
from danqing.interfaces.cli.options import brief_options, taking
from danqing.interfaces.cli.paint import AR, OUT, PROMPT, SEEDS, paint_brief, paint_words

FOUR = 4
_AFRESH = {"variation": 0.0, "variation_seed": None, "image": None, "mask": None, "strength": None}


@taking(PROMPT, OUT, AR, *brief_options().values())
def imagine(**options: Any) -> None:
    """Paint a grid of four pictures to choose from.

    [b]Examples[/b]

    danqing imagine "a fox, 3d style"

    danqing vary paintings/a-fox-3d-style-7-grid.png 2

    danqing upscale paintings/a-fox-3d-style-7-grid.png 3

    danqing reroll paintings/a-fox-3d-style-7-grid.png
    """
    out, ratio, words = options.pop("out"), options.pop("ar"), options.pop("prompt")
    given = {name: value for name, value in options.items() if value not in (None, False)}
    paint_words(" ".join(words), ratio, out, cells=False, **{"count": FOUR, **given})


def reroll(
    picture: Annotated[str, typer.Argument(help="A picture or a grid that danqing painted.")],
    out: Annotated[str | None, typer.Option("--out", "-o", help="A file or a folder/.")] = None,
) -> None:
    """Paint the same words again, with new seeds.

    [b]Example[/b]

    danqing reroll paintings/a-fox-3d-style-7-grid.png
    """
    brief = read_source(picture).brief
    if brief is None:
        raise BadPicture(f"{picture!r} does not say how it was painted: use a file as danqing saved it")
    if brief.image is not None or brief.strength is not None:
        print("it was made from a picture: only its words are painted again", file=sys.stderr)
    paint_brief(
        brief.model_copy(update={**_AFRESH, "seed": secrets.randbelow(SEEDS)}), None, out, cells=False
    )
