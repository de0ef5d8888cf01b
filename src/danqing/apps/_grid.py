"""Which picture of a grid is meant: apps start from one, not from four at once."""

from __future__ import annotations

from dataclasses import replace

from danqing.conditioning.wildcards import choose
from danqing.core.errors import BadBrief
from danqing.core.images import cell
from danqing.core.sources import Source


def part_of(source: Source, number: int | None = None) -> Source:
    """The picture itself, or cell `number` of it.

    Raises:
        BadBrief: it is a grid and no cell is named, or there is no such cell.
    """
    if number is not None:
        return cell_of(source, number)
    if source.brief is not None and source.brief.count > 1:
        raise BadBrief(
            f"{source.name!r} is a grid of {source.brief.count} pictures: name a cell, such as 1, or take it "
            "out first with 'danqing upscale GRID 1'"
        )
    return source


def cell_of(source: Source, number: int) -> Source:
    """Cell `number` (1 is at the top left) of a grid that danqing painted, pixel for pixel.

    Its brief has the wildcards as they were chosen for it: it means what it shows.

    Raises:
        BadBrief: the picture is not a grid, or has fewer cells.
    """
    brief = source.brief
    if brief is None or brief.count < 2:
        raise BadBrief(f"{source.name!r} is not a grid that danqing painted: leave the cell out")
    if number > brief.count:
        raise BadBrief(f"cell {number} of {source.name!r}: choose from 1 to {brief.count}")
    alone = brief.alone(number - 1)
    assert alone.seed is not None, "pictures tell a settled brief"
    alone = alone.model_copy(update={"prompt": choose(alone.prompt, alone.seed)})
    return replace(source, image=cell(source.image, number - 1, brief.count), brief=alone)
