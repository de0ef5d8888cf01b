"""Name what pictures show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from danqing.apps._inputs import AppInputs, SplitAtCommas
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.field_groups import Text
from danqing.core.image_ref import ImageRef
from danqing.core.progress import ProgressCallback

if TYPE_CHECKING:
    from danqing.apps._classify import Classification
    from danqing.apps._image_files import UnreadableFile


class Classify(AppInputs):
    """Name what pictures show, with probabilities.

    Without options the judge answers: a small residual network that knows 120 things and always says one of
    them, also where none is right. With --labels CLIP chooses among words of your own, in English or Chinese.
    """

    positional: ClassVar[tuple[str, ...]] = ("pictures",)

    pictures: tuple[ImageRef, ...] = Field(min_length=1, description="pictures, or folders of them")
    labels: Annotated[tuple[Text, ...], SplitAtCommas] = Field(
        default=(), description="choose among these, by CLIP: cat,dog,狐狸"
    )
    model: Text | None = Field(
        default=None,
        description="vit, or a folder of a ViT; with labels, of a CLIP; the judge if not given",
        json_schema_extra={"local": True},
    )
    top: int = Field(default=5, ge=1, description="how many names")
    side: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="pixels at which a ViT looks; its own if not given",
        json_schema_extra={"unit": "pixels"},
    )

    def image_refs(self) -> list[ImageRef]:
        """None, because a picture that cannot be read is reported later, in its row of the result."""
        return []


@app(
    Classify,
    output="rows",
    examples=(
        "danqing classify cat.png paintings/",
        "danqing classify cat.png --labels cat,dog,狐狸",
        "danqing classify cat.png --model vit",
        "danqing classify cat.png --model vit-base-patch16-224",
    ),
)
def classify(
    inputs: Classify,
    session: Session,
    progress: ProgressCallback,  # noqa: ARG001
) -> Iterable[Classification | UnreadableFile]:
    """The most likely names of every picture, or its read error.

    Raises:
        BadBrief: there are no pictures, or the labels or the side are wrong.
        BadWeights: the model cannot be used.
    """
    from danqing.apps._classify import classify_pictures, open_namer

    namer = open_namer(session, inputs.model, inputs.labels, inputs.side)
    return classify_pictures(inputs.pictures, namer, inputs.top)
