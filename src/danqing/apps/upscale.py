"""Enlarge a picture, or take a cell of a grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from danqing.apps._inputs import Cell, PaintInputs, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.field_groups import Anyway, Fast, Strength, Text
from danqing.core.image_ref import ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


def _whole(value: object) -> object:
    """A whole number, also from the text of a command line."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class Upscale(Fast, Anyway, PaintInputs):
    """Enlarge a picture, or take one cell of a grid as it is."""

    positional: ClassVar[tuple[str, ...]] = ("image", "cell")

    photo_advice: ClassVar[str] = (
        "it enlarges with a drawing's clean edges, and grain is lost; --model x4 is for photos"
        " (--anyway for no warning)"
    )

    image: ImageRef = Field(description="the picture to start from")
    prompt: Text = optional_words()
    cell: int | None = Cell
    scale: Annotated[Literal[2, 3, 4, 8], BeforeValidator(_whole)] | None = Field(
        default=None, description="2, 3, 4 or 8 times as wide and high; as the model has learned if not given"
    )
    creative: bool = Field(default=False, description="redraw the picture lightly first, for fresh detail")
    strength: Strength | None = Field(
        default=None, description="how far a creative redraw leaves the picture; 0.3 if not given"
    )
    noise_level: int | None = Field(
        default=None,
        ge=0,
        description="noise on the picture, for a model that enlarges by painting; more is freer",
    )

    @property
    def required_skills(self) -> frozenset[Can]:
        """`Can.REDRAW` for a creative upscale, else those of the base class."""
        return frozenset({Can.REDRAW}) if self.creative else self.needs


@app(
    Upscale,
    examples=(
        "danqing upscale paintings/a-fox-7-grid.png 3",
        "danqing upscale photo.png --scale 2",
        "danqing upscale photo.png --creative",
    ),
)
def upscale(inputs: Upscale, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Upscale `image` by the painter's learned upscaler, in tiles, or take a `cell` of a grid.

    With `creative`, the picture is redrawn with a low strength for new detail, and then upscaled.

    Raises:
        BadBrief: there is no such cell or noise level, or the result has more than 100 megapixels.
        BadPicture: the picture cannot be read.
    """
    from danqing.apps._upscale import cell_picture, upscale_source

    if inputs.cell is not None:
        return iter([cell_picture(inputs)])
    return upscale_source(inputs, session, progress)
