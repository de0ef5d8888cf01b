"""Makes grids of pictures, and takes single pictures out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from danqing.conditioning.wildcards import choose
from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.images import cell, grid
from danqing.core.picture import Picture
from danqing.core.source_image import SourceImage


def single_picture(source: SourceImage, number: int | None = None) -> SourceImage:
    """The picture itself, or cell `number` of a grid.

    Raises:
        BadBrief: the picture is a grid and `number` is None, or there is no such cell.
    """
    if number is not None:
        return cell_of(source, number)
    if source.brief is not None and source.brief.count > 1:
        raise BadBrief(
            f"{source.name!r} is a grid of {source.brief.count} pictures: name a cell, such as 1, or take it "
            "out first with 'danqing upscale GRID 1'"
        )
    return source


def grid_of(pictures: Sequence[Picture], brief: ResolvedBrief | None = None) -> Picture:
    """One picture with all pictures of a request, row by row.

    brief: the brief of all of them; None uses that of the first with their number.
    """
    first, count = pictures[0], len(pictures)
    # the seeds of the cells are consecutive, unless the cells are steps of one edit
    one_seed = pictures[-1].brief.seeds[0] == first.brief.seeds[0]
    whole = first.brief if one_seed else first.brief.model_copy(update={"count": count})
    values = _merged_inputs(pictures) if one_seed else {**first.info.inputs, "count": count}
    record = {"inputs": values if brief is None else first.info.inputs, "chosen": ""}
    info = first.info.model_copy(update=record)
    return Picture(grid([picture.image for picture in pictures]), brief or whole, info)


def _merged_inputs(pictures: Sequence[Picture]) -> dict[str, Any]:
    """The inputs of all steps of one edit; a field that differs, such as etas, becomes a list."""
    inputs = [picture.info.inputs for picture in pictures]
    alike = {key for key, value in inputs[0].items() if all(other.get(key) == value for other in inputs)}
    return {
        key: value if key in alike else [one for other in inputs for one in other[key]]
        for key, value in inputs[0].items()
    }


def cell_of(source: SourceImage, number: int) -> SourceImage:
    """Cell `number` of a grid that danqing painted, pixel for pixel; number 1 is at the top left.

    The brief of the cell has its wildcards replaced by the choices that were made.

    Raises:
        BadBrief: the picture is not a grid, or has fewer cells.
    """
    brief = source.brief
    if brief is None or brief.count < 2:
        raise BadBrief(f"{source.name!r} is not a grid that danqing painted: leave the cell out")
    if number > brief.count:
        raise BadBrief(f"cell {number} of {source.name!r}: choose from 1 to {brief.count}")
    single = brief.alone(number - 1)
    single = single.model_copy(update={"prompt": choose(single.prompt, single.seed)})
    return replace(source, image=cell(source.image, number - 1, brief.count), brief=single)
