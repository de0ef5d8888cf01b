"""Cut the subject out of a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from danqing.apps._inputs import PictureFiles, SplitNumbers
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.errors import BadBrief
from danqing.core.field_groups import Text
from danqing.core.image_ref import ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Cutout(PictureFiles):
    """Cut the subject out of a picture, onto transparency; without a model, at the picture's own size."""

    positional: ClassVar[tuple[str, ...]] = ("image", "where")

    image: ImageRef = Field(description="the picture to cut from")
    where: Text | None = Field(
        default=None, description="words for the subject; without any, what stands out from the background"
    )
    box: Annotated[tuple[float, ...], Field(min_length=4, max_length=4), SplitNumbers] | None = Field(
        default=None, description="left,top,right,bottom around the subject, in pixels"
    )
    point: Annotated[tuple[float, ...], Field(min_length=2, max_length=2), SplitNumbers] | None = Field(
        default=None, description="x,y on the subject, in pixels"
    )
    crop: bool = Field(default=False, description="as large as the subject, without what is empty around it")
    outline: int = Field(
        default=0,
        ge=0,
        le=200,
        description="pixels of white around the subject, as a sticker has",
        json_schema_extra={"unit": "pixels"},
    )

    model: Text | None = Field(
        default=None,
        description="a folder of another CLIP of transformers; the shipped one if not given",
        json_schema_extra={"local": True},
    )

    @property
    def marks(self) -> tuple[str, ...]:
        """The mark of the one picture."""
        return ("subject",)

    @property
    def transparent(self) -> bool:
        """True."""
        return True

    def check_pictures(self) -> None:
        """Check that at most one field locates the subject, and that the place is inside the picture."""
        ways = [name for name in ("where", "box", "point") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise BadBrief(f"{' and '.join(ways)} both say where the subject is: give one of them")
        width, height = self.image.source.image.size
        left, top, right, bottom = self.box or (0, 0, width, height)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise BadBrief(f"box {_text(self.box)} does not lie in the picture, which is {width}x{height}")
        x, y = self.point or (0, 0)
        if not (0 <= x < width and 0 <= y < height):
            raise BadBrief(
                f"point {_text(self.point)} does not lie in the picture, which is {width}x{height}"
            )


def _text(numbers: tuple[float, ...] | None) -> str:
    return ",".join(f"{number:g}" for number in numbers or ())


@app(
    Cutout,
    examples=(
        "danqing cutout dog.jpg",
        "danqing cutout toy.jpg --box 120,80,620,700 --crop --outline 12",
        "danqing cutout desk.jpg --point 340,210",
    ),
)
def cutout(inputs: Cutout, session: Session, progress: ProgressCallback) -> Iterator[Picture]:  # noqa: ARG001
    """Cut out the subject of `image`: the most salient one, or that of a box, a point or a text.

    Raises:
        BadBrief: there is no clear subject, nothing matches the text, or OpenCV is not installed.
        BadPicture: the picture cannot be read.
    """
    from danqing.apps._cutout import cut_subject

    return cut_subject(inputs, session)
