"""Paint on beyond a picture's edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

from pydantic import Field, model_validator

from danqing.apps._inputs import Cell, PictureInputs, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.field_groups import Text
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Outpaint(PictureInputs):
    """Paint on beyond a picture's edges; the picture itself stays byte for byte."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.INPAINT})

    prompt: Text = optional_words()
    left: float = Field(default=0, ge=0, le=4, description="how much to add on the left, 1 = its width again")
    right: float = Field(default=0, ge=0, le=4, description="how much to add on the right")
    top: float = Field(default=0, ge=0, le=4, description="how much to add on top, 1 = its height again")
    bottom: float = Field(default=0, ge=0, le=4, description="how much to add below")
    cell: int | None = Cell

    @model_validator(mode="after")
    def _adds_something(self) -> Self:
        if not (self.left or self.right or self.top or self.bottom):
            raise ValueError("nothing to add: give how much, such as right 0.5")
        return self


@app(Outpaint, examples=('danqing outpaint house.png "a house, ink wash style" --right 0.5',))
def outpaint(inputs: Outpaint, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Extend `image` at its edges; a model of drawings only adds narrow mirrored strips to a photo.

    Raises:
        BadBrief: nothing or too much is to be added, or the picture is a grid and no cell is chosen.
        BadPicture: the picture cannot be read.
    """
    from danqing.apps._job import Job
    from danqing.apps._outpaint import Sides, carry_on, outpaint_sides
    from danqing.apps._photo_fill import fills

    shares = inputs.left, inputs.top, inputs.right, inputs.bottom
    if fills(inputs, session):
        return carry_on("outpaint", inputs, session, Sides.of(inputs.image.source.image.size, *shares))
    job = Job.start("outpaint", inputs, session, progress, image=inputs.image, cell=inputs.cell)
    return outpaint_sides(job, Sides.of(job.source.image.size, *shares))
