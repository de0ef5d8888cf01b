"""Paint a grid of four to choose from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from danqing.apps._prepare_paint import prepare_paint
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.apps.paint import Paint
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Imagine(Paint):
    """Paint a grid of four pictures to choose from."""

    grid_only: ClassVar[bool] = True

    count: int = Field(default=4, ge=1, le=64, description="how many pictures")


@app(
    Imagine,
    examples=(
        'danqing imagine "a fox, 3d style"',
        "danqing vary paintings/a-fox-3d-style-7-grid.png 2",
        "danqing upscale paintings/a-fox-3d-style-7-grid.png 3",
        "danqing reroll paintings/a-fox-3d-style-7-grid.png",
    ),
    prepare=lambda *args: prepare_paint(Imagine, *args),
)
def imagine(inputs: Imagine, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Paint the pictures of a grid. Raises as `paint`."""
    from danqing.apps._paint import paint_resolved

    return paint_resolved(inputs, session, progress)
