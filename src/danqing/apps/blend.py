"""Mix two to five pictures into new ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from danqing.apps._inputs import GridInputs, SplitNumbers, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.field_groups import Anyway, Text
from danqing.core.image_ref import ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Blend(Anyway, GridInputs):
    """Mix two to five pictures, and words, into new ones."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})
    positional: ClassVar[tuple[str, ...]] = ("images", "prompt")

    photo_fields: ClassVar[tuple[str, ...]] = ("images",)
    photo_advice: ClassVar[str] = (
        "what it mixes of one is colours and places; danqing cutout and stylize make a drawing of it first,"
        " and --model sd15 mixes photos (--anyway for no warning)"
    )

    images: tuple[ImageRef, ...] = Field(min_length=1, max_length=5, description="the pictures to mix")
    prompt: Text = optional_words("words to mix in")
    weights: Annotated[tuple[float, ...], SplitNumbers] = Field(
        default=(), description="how much of each picture, such as 2,1"
    )
    strength: float = Field(default=0.8, gt=0, le=1, description="how far to leave the mixed pictures")
    count: int = Field(default=4, ge=1, le=64, description="how many pictures")

    @model_validator(mode="after")
    def _mixes(self) -> Self:
        if len(self.images) == 1 and not self.prompt.strip():
            name = self.images[0].name
            raise ValueError(
                f"{name!r} alone cannot be blended: give two to five pictures, or words in --prompt"
            )
        return self


@app(Blend, examples=("danqing blend fox.png owl.png --weights 2,1",))
def blend(inputs: Blend, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Mix pictures, and perhaps a prompt: latents by spherical interpolation, prompts by the same weights.

    The prompt of a picture is that of its metadata, or else the best one by CLIP.

    Raises:
        BadBrief: there are more than five pictures, or not one weight for each.
        BadPicture: a picture cannot be read.
    """
    from danqing.apps._blend import blend_sources

    return blend_sources(inputs, session, progress)
