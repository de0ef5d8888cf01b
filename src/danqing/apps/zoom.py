"""Zoom out: paint on beyond all four edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from danqing.apps._inputs import Cell, PictureInputs, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.field_groups import Text
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Zoom(PictureInputs):
    """Zoom out: paint on beyond all four edges."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.INPAINT})

    prompt: Text = optional_words()
    by: float = Field(default=1.5, gt=1, le=4, description="1.5 shows one and a half times as much each way")
    cell: int | None = Cell


@app(Zoom, examples=("danqing zoom house.png --by 2",))
def zoom(inputs: Zoom, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Extend `image` at all four edges; the result is `by` times as wide and as high."""
    from danqing.apps._job import Job
    from danqing.apps._outpaint import Sides, carry_on, outpaint_sides
    from danqing.apps._photo_fill import fills

    shares = ((inputs.by - 1) / 2,) * 4
    if fills(inputs, session):
        return carry_on("zoom", inputs, session, Sides.of(inputs.image.source.image.size, *shares))
    job = Job.start("zoom", inputs, session, progress, image=inputs.image, cell=inputs.cell)
    return outpaint_sides(job, Sides.of(job.source.image.size, *shares))
