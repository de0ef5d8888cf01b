"""Paint on beyond one edge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from danqing.apps._inputs import Cell, PictureInputs, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.field_groups import Text
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Pan(PictureInputs):
    """Move the view: paint on beyond one edge."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.INPAINT})
    positional: ClassVar[tuple[str, ...]] = ("image", "to", "prompt")

    prompt: Text = optional_words()
    to: Literal["left", "right", "up", "down"] = Field(description="left, right, up or down")
    by: float = Field(default=0.5, gt=0, le=2, description="how far, 1 = the whole side again")
    cell: int | None = Cell


@app(Pan, examples=("danqing pan house.png left",))
def pan(inputs: Pan, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Extend `image` beyond one edge: `to` is left, right, up or down."""
    from danqing.apps._job import Job
    from danqing.apps._outpaint import Sides, carry_on, outpaint_sides
    from danqing.apps._photo_fill import fills

    shares = {"left": 0.0, "up": 0.0, "right": 0.0, "down": 0.0, inputs.to: inputs.by}.values()
    if fills(inputs, session):
        return carry_on("pan", inputs, session, Sides.of(inputs.image.source.image.size, *shares))
    job = Job.start("pan", inputs, session, progress, image=inputs.image, cell=inputs.cell)
    return outpaint_sides(job, Sides.of(job.source.image.size, *shares))
