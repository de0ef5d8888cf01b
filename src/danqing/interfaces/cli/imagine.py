"""`danqing imagine` and `danqing reroll`: the grid of four, and another like it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from danqing.core.brief import Brief
from danqing.core.errors import BadPicture
from danqing.core.sources import read_source
from danqing.interfaces.cli.options import brief_options, taking
from danqing.interfaces.cli.paint import AR, OUT, PROMPT, paint_brief

FOUR = 4


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
    given = {name: value for name, value in options.items() if value is not None}
    paint_brief(Brief.of(" ".join(words), **{"count": FOUR, **given}), ratio, out, cells=False)


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
    again = {
        "seed": None,
        "variation": 0.0,
        "variation_seed": None,
        "image": None,
        "mask": None,
        "strength": None,
    }
    paint_brief(brief.model_copy(update=again), out=out, cells=False)
