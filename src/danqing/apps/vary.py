"""Paint variations of a picture, or of a cell of a grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from danqing.apps._inputs import Cell, PictureInputs, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.field_groups import Strength, Text
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Vary(PictureInputs):
    """Paint variations of a picture, or of one cell of a grid."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})
    positional: ClassVar[tuple[str, ...]] = ("image", "cell")

    photo_advice: ClassVar[str] = (
        "variations are drawings in its colours; --model sd15 varies photos (--anyway for no warning)"
    )

    prompt: Text = optional_words("other words for the variation (remix)")
    cell: int | None = Cell
    how: Literal["subtle", "strong"] = Field(default="strong", description="subtle or strong")
    strength: Strength | None = Field(
        default=None, description="how far to leave the picture, instead of what subtle or strong means"
    )
    count: int = Field(default=4, ge=1, le=64, description="how many pictures")


@app(
    Vary,
    examples=(
        "danqing vary paintings/a-fox-7-grid.png 2",
        'danqing vary fox.png --how subtle --prompt "a fox, ink wash style"',
    ),
)
def vary(inputs: Vary, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Paint variations of `image`; with a prompt it is a remix.

    Raises:
        BadBrief: there is no such cell, or no prompt, neither in the request nor in the metadata.
        BadPicture: the picture cannot be read.
    """
    from danqing.apps._job import Job
    from danqing.apps._vary import vary_source

    return vary_source(Job.start("vary", inputs, session, progress, image=inputs.image, cell=inputs.cell))
