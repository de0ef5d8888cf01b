"""Paint a film, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from danqing.apps._inputs import PaintInputs
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.conditioning.keyframes import FRAME_MAX, KeyFrames, Script
from danqing.core.card import Can
from danqing.core.field_groups import PROMPT_MAX, SEED_MAX, Anyway, Fast, Text
from danqing.core.image_ref import ImageLookup, ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback

if TYPE_CHECKING:
    from danqing.families.disco.settings import SettingsFile


def _key_frames(text: str) -> str:
    KeyFrames.parse(text)
    return text


def _script(text: str) -> str:
    if text.strip():
        Script.parse(text)
    return text


KeyFrameText = Annotated[Text, AfterValidator(_key_frames)]


class Animate(Fast, Anyway, PaintInputs):
    """Paint a film: each frame is the one before, moved under a camera and painted over.

    Words and moves may change on the way: "0: a red apple | 20: a green apple", --zoom "0: (1), 10: (1.05)".
    """

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})
    positional: ClassVar[tuple[str, ...]] = ("prompt",)

    photo_fields: ClassVar[tuple[str, ...]] = ("start",)
    photo_advice: ClassVar[str] = (
        "frames become drawings in its colours; --model sd15 films photos (--anyway for no warning)"
    )

    prompt: Annotated[Text, AfterValidator(_script)] = Field(
        default="", max_length=PROMPT_MAX, description="what to paint, or from which frame on to paint what"
    )
    start: ImageRef | None = Field(
        default=None, description="a picture to start from, instead of words alone"
    )
    frames: int = Field(default=24, ge=1, le=FRAME_MAX, description="how many frames")
    fps: float = Field(default=12, ge=1, le=60, description="frames a second")
    zoom: KeyFrameText = Field(default="1", description="how much larger each frame, such as 0: (1.02)")
    angle: KeyFrameText = Field(default="0", description="degrees to turn each frame, counter-clockwise")
    translation_x: KeyFrameText = Field(default="0", description="pixels to the right each frame")
    translation_y: KeyFrameText = Field(default="0", description="pixels down each frame")
    border: Literal["edge", "wrap", "empty"] = Field(
        default="edge", description="what comes in: edge, wrap or empty"
    )
    strength: float = Field(
        default=0.4, gt=0, le=1, description="how far to leave the frame before: 0.2 touches up, 1 forgets it"
    )
    settings: Text | None = Field(
        default=None,
        description="a settings file of Disco Diffusion, for what is not given here",
        json_schema_extra={"local": True},
    )

    @model_validator(mode="after")
    def _has_seeds(self) -> Self:
        if self.seed is not None and self.seed + self.frames - 1 > SEED_MAX:
            raise ValueError(
                f"seed {self.seed} + frames {self.frames} passes {SEED_MAX}: choose a smaller seed"
            )
        if min(number for _, number in KeyFrames.parse(self.zoom).keys) <= 0:
            raise ValueError(f"zoom {self.zoom!r} reaches 0 or less: 1 keeps the size")
        return self

    @property
    def settings_file(self) -> SettingsFile:
        """The content of its settings file; empty where there is none."""
        from danqing.apps._disco_settings_file import read_file

        return read_file(self.settings)


def _prepare(values: Mapping[str, Any], session: Session, image_lookup: ImageLookup) -> Animate:
    """Parse the inputs; values of the request override those of a settings file."""
    from danqing.apps._disco_settings_file import with_settings
    from danqing.apps._parse import parse

    inputs: Animate = parse(Animate, with_settings(values), session, image_lookup)
    inputs.add_notes(*inputs.settings_file.notes)
    return inputs


@app(
    Animate,
    output="film",
    examples=(
        'danqing animate "a red apple, 3d style" --zoom 1.02 --out apple.gif',
        'danqing animate "0: a red apple | 12: a green apple" --angle "0: (0), 24: (5)" -o film.webp',
    ),
    prepare=_prepare,
)
def animate(inputs: Animate, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Yield the frames of a video, each as soon as it is painted.

    As Disco Diffusion's 2D animation, with any painter that can redraw.

    Raises:
        BadBrief: the model does not support the request.
        BadPicture: the input picture cannot be read.
    """
    from danqing.apps._animate import paint_frames

    return paint_frames(inputs, session, progress)
