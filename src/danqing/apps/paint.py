"""Paint pictures from words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field, PrivateAttr

from danqing.apps._control_inputs import ControlInputs
from danqing.apps._inputs import REDRAWN_PHOTO, GridInputs, ResolvedInputs
from danqing.apps._prepare_paint import prepare_paint
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.field_groups import Anyway, Strength, Text
from danqing.core.image_ref import ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Paint(ControlInputs, ResolvedInputs, Anyway, GridInputs):
    """Paint pictures from words.

    Pictures keep how they were made: see `danqing show FILE`. The same seed paints the same picture.
    """

    positional: ClassVar[tuple[str, ...]] = ("prompt",)
    photo_advice: ClassVar[str] = REDRAWN_PHOTO

    ar: Text | None = Field(default=None, description="shape W:H, such as 3:2, instead of two sides")
    image: ImageRef | None = Field(
        default=None, description="a picture to start from; in a prompt it may stand before the words"
    )
    strength: Strength | None = Field(default=None, description="how far to leave that picture")
    style_image: ImageRef | None = Field(
        default=None, description="a picture whose style is wanted, as --sref in a prompt"
    )
    settings_of: ImageRef | None = Field(
        default=None,
        description="take the settings of a picture, also of A1111, ComfyUI and others, or a .txt of A1111",
    )
    strict: bool = Field(
        default=False,
        description="stop where the prompt is about something that the model has not learned",
        json_schema_extra={"advanced": True},
    )
    batch: int = Field(
        default=1,
        ge=1,
        description="pictures that go through the network at once: faster on a GPU, but not the same bytes",
        json_schema_extra={"unit": "pictures", "advanced": True},
    )

    _unlearned: str = PrivateAttr(default="")

    @property
    def unlearned_phrase(self) -> str:
        """The subject of the prompt if it is not in the training data of the model; else empty."""
        return self._unlearned

    def set_unlearned(self, phrase: str, note: str) -> None:
        """Set the subject that is not in the training data of the model, and add a note about it."""
        self._unlearned = phrase
        self.add_notes(note)

    @property
    def required_skills(self) -> frozenset[Can]:
        """`Can.REDRAW` with an input picture, else those of the base class."""
        return self.needs if self.image is None else frozenset({Can.REDRAW})


@app(
    Paint,
    examples=(
        'danqing paint "a red apple, 3d style"',
        'danqing paint "一只兔子，剪纸风格" --count 4 --seed 7 --background transparent',
        'danqing paint "a sailboat, flat style" --ar 3:2 --no "people, text" --out sailboat.webp',
        "danqing paint --from a1111.png --seed 8",
        'danqing paint "a red fox" --model sd15 --control canny=photo.jpg --control depth=map.png:0.6',
        'danqing paint "a (red:1.3) fox in {snow|rain} --ar 3:2 --chaos 20 --no people" --count 4',
    ),
    prepare=lambda *args: prepare_paint(Paint, *args),
)
def paint(inputs: Paint, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Paint one picture per seed from `prompt`, a text with parameters or a `Brief`.

    With `batch` 1, a picture is the same byte for byte alone and in any grid. A larger batch is faster on a
    large GPU but needs more memory. Kernels then round differently, so a few bytes may differ by one from the
    picture painted alone.

    Raises:
        BadBrief: the model does not support the request.
        BadWeights: the model cannot be opened.
        NotFinite: NaN or infinite values appeared; nothing is returned.
    """
    from danqing.apps._paint import paint_resolved

    return paint_resolved(inputs, session, progress)
