"""Edit a picture by saying what it shall show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from danqing.apps._inputs import PaintInputs, SplitNumbers
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.field_groups import PROMPT_MAX, Anyway, Text
from danqing.core.image_ref import ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback

STEPS = 4  # number of pictures without `etas`

Eta = Annotated[float, Field(ge=0, le=1.5)]  # above it, pictures lose their structure


class Edit(Anyway, PaintInputs):
    """Edit a picture by saying what it shall show (Imagic); gives a strip from the old to the new."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.LEARN, Can.WORDS})
    switches: ClassVar[Mapping[str, Mapping[str, object]]] = {"fast": {"method": "inversion"}}

    photo_advice: ClassVar[str] = (
        "it cannot learn this one; --model sd15 edits photos, and danqing stylize renders them"
        " (--anyway for no warning)"
    )

    image: ImageRef = Field(description="the picture to start from")
    prompt: Text = Field(min_length=1, max_length=PROMPT_MAX, description="what the picture shall show")
    method: Literal["imagic", "inversion"] = Field(
        default="imagic",
        description="imagic learns the picture for a minute; inversion swaps its words in seconds",
    )
    etas: Annotated[tuple[Eta, ...], Field(min_length=1, max_length=16), SplitNumbers] | None = Field(
        default=None, description="how far towards the words, such as 0,0.5,1"
    )
    effort: float = Field(default=1.0, gt=0, le=20, description="how long to learn it: 2 takes twice as long")

    @property
    def marks(self) -> tuple[str, ...]:
        """The eta of each picture, or the number of its step."""
        if self.method == "inversion":
            return ("fast",)
        if self.etas is None:
            return tuple(f"step{k + 1}" for k in range(STEPS))
        return tuple(f"eta{eta:g}" for eta in self.etas)


@app(Edit, examples=('danqing edit cat.png "a cat, paper-cut style"',))
def edit(inputs: Edit, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """A picture for each of `etas`: 0 is `image` as the model reconstructs it, 1 follows the prompt alone.

    Without `etas`, eleven pictures are painted and the four with the most even steps are returned. With
    `method="inversion"` there is one picture.

    Raises:
        BadBrief: the model does not support the request.
        BadPicture: the picture cannot be read.
        BadWeights: the shipped CLIP, which chooses the steps, is damaged.
    """
    from danqing.apps._edit import edit_source

    return edit_source(inputs, session, progress)
