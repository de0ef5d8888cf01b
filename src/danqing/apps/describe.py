"""Say four prompts that could have painted a picture."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from danqing.apps._inputs import AppInputs
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.field_groups import ModelChoice, Text
from danqing.core.image_ref import ImageRef
from danqing.core.progress import ProgressCallback


class Describe(ModelChoice, AppInputs):
    """Four prompts that could have painted a picture."""

    positional: ClassVar[tuple[str, ...]] = ("image",)

    image: ImageRef = Field(description="the picture to describe")
    language: Literal["en", "zh"] = Field(default="en", description="en or zh")
    captioner: Text | None = Field(
        default=None,
        description="a folder of a captioning model of transformers, instead of CLIP",
        json_schema_extra={"local": True},
    )


@app(Describe, output="lines", examples=("danqing describe cat.png",))
def describe(inputs: Describe, session: Session, progress: ProgressCallback) -> list[str]:  # noqa: ARG001
    """Four prompts that could have painted `image`, best first, or the caption of a captioning model.

    The styles are those of the model. If the picture shows none of the model's concepts, a note says so in
    six of ten cases.

    Raises:
        BadBrief: a value is out of range.
        BadPicture: the picture cannot be read.
        BadWeights: the folder of the captioning model cannot be used.
    """
    from danqing.apps._describe import caption, is_doubtful, prompts_for
    from danqing.apps._grid import single_picture
    from danqing.apps._photos import image_name

    source = single_picture(inputs.image.source)
    if inputs.captioner is not None:
        return [caption(source.image, inputs.captioner)]
    card = session.open_card(inputs.model)
    classifier = session.classifier()
    if is_doubtful(source.image, classifier):
        inputs.add_notes(
            f"{image_name(inputs.image)} shows nothing that danqing is sure of: these are guesses;"
            " --captioner names more things"
        )
    return prompts_for(source.image, classifier, card, inputs.language)
