"""What each app asks for: one model for Python, the command line and servers, readable without torch.

A form is a `Brief` and what the app needs besides; `Form.brief` is what the painter gets to see.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from danqing.conditioning.keyframes import FRAME_MAX, KeyFrames, Script
from danqing.core.brief import SEED_MAX, Brief, Text
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief
from danqing.core.request import Request
from danqing.core.sources import Source

_CELL = Field(default=None, ge=1, le=64, description="which cell of a grid, 1 is at the top left")
_WORDS = Field(
    default="", max_length=4000, description="what to paint there; the picture's own words if empty"
)


def _split(value: object) -> object:
    """Text such as 0,0.5,1 -> its parts, as a command line gives it."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _key_frames(text: str) -> str:
    KeyFrames.parse(text)
    return text


def _script(text: str) -> str:
    if text.strip():
        Script.parse(text)
    return text


KeyFrameText = Annotated[Text, AfterValidator(_key_frames)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_split)]
Eta = Annotated[float, Field(ge=0, le=1.5)]  # beyond it pictures fall apart
EDIT_STEPS = 4  # pictures of a strip whose etas are not given
Etas = Annotated[tuple[Eta, ...], Field(min_length=1, max_length=16), BeforeValidator(_split)]


class Form(Brief):
    """A request to an app.

    needs: what the painter must be able to do. asks: the positional fields. single: it gives one result, so
    `count` means nothing. paints: it gives pictures, else lines of text.
    """

    needs: ClassVar[frozenset[Can]] = frozenset()
    asks: ClassVar[tuple[str, ...]] = ("image", "prompt")
    single: ClassVar[bool] = False
    paints: ClassVar[bool] = True

    image: Text = Field(description="the picture to start from")

    def brief(self, **changed: Any) -> Brief:
        """The part that the painter reads, as far as it was given or this form has its own default."""
        mine, plain = type(self).model_fields, Brief.model_fields
        set_here = {name for name in plain if mine[name].default != plain[name].default}
        given = {name: getattr(self, name) for name in plain if name in self.model_fields_set | set_here}
        return Brief.of(**{**given, **changed})

    @property
    def marks(self) -> tuple[str, ...]:
        """What tells the pictures of one request apart, in their files' names: their seeds."""
        assert self.seed is not None, "choose a seed first"
        return tuple(str(self.seed + k) for k in range(self.count))

    @property
    def wants(self) -> frozenset[Can]:
        """What the painter must be able to do as this one was asked; `needs` and perhaps more."""
        return self.needs

    def check(self, card: Card) -> None:
        """Tell in one line what a model cannot do.

        Raises:
            BadBrief: the model lacks a skill that the app needs.
        """
        if self.single and self.count > 1:
            raise BadBrief(f"count {self.count}: this gives one result, so leave count out")
        lacking = sorted(self.wants - card.can)
        if lacking:
            skills = ", ".join(sorted(card.can)) or "nothing"
            raise BadBrief(
                f"model {card.name!r} cannot {lacking[0]} (it can: {skills}): choose another --model"
            )

    def model_for(self, source: Source) -> str:
        """The model that was asked for, or the one that painted the picture to start from."""
        if "model" in self.model_fields_set or source.brief is None:
            return self.model
        return source.brief.model

    def asked(self, **known: Any) -> dict[str, Any]:
        """The fields as they were given, and what has become known, for the picture's metadata."""
        return {**self.model_dump(mode="json", exclude_unset=True), **known}


class Redraw(Form):
    """Paint a picture anew from another one and words (image to image)."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})
    strength: float = Field(
        default=0.6, gt=0, le=1, description="how far to leave the picture: 0.2 touches up, 1 repaints"
    )
    depth: Text | None = Field(
        default=None, description="a depth map, white is near, for a model that paints by depth"
    )


class Inpaint(Form):
    """Repaint a part of a picture; the rest stays byte for byte."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.INPAINT})
    prompt: Text = _WORDS
    mask: Text | None = Field(default=None, description="a picture of the same size, white where to repaint")
    where: Text | None = Field(default=None, description="words for the part to repaint, instead of a mask")
    damage: Literal["scratches", "holes"] | None = Field(
        default=None, description="scratches or holes: find them and mend them, instead of a mask"
    )
    feather: int = Field(default=8, ge=0, le=128, description="pixels over which the new part fades in")
    strength: float = Field(
        default=1.0, gt=0, le=1, description="how far to leave what was there: 1 forgets it"
    )


class Outpaint(Form):
    """Paint on beyond a picture's edges; the picture itself stays byte for byte."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.INPAINT})
    prompt: Text = _WORDS
    left: float = Field(default=0, ge=0, le=4, description="how much to add on the left, 1 = its width again")
    right: float = Field(default=0, ge=0, le=4, description="how much to add on the right")
    top: float = Field(default=0, ge=0, le=4, description="how much to add on top, 1 = its height again")
    bottom: float = Field(default=0, ge=0, le=4, description="how much to add below")
    cell: int | None = _CELL


class Zoom(Form):
    """Zoom out: paint on beyond all four edges."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.INPAINT})
    prompt: Text = _WORDS
    by: float = Field(default=1.5, gt=1, le=4, description="1.5 shows one and a half times as much each way")
    cell: int | None = _CELL


class Pan(Form):
    """Move the view: paint on beyond one edge."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.INPAINT})
    asks: ClassVar[tuple[str, ...]] = ("image", "to", "prompt")
    prompt: Text = _WORDS
    to: Literal["left", "right", "up", "down"] = Field(description="left, right, up or down")
    by: float = Field(default=0.5, gt=0, le=2, description="how far, 1 = the whole side again")
    cell: int | None = _CELL


class Vary(Form):
    """Paint variations of a picture, or of one cell of a grid."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})
    asks: ClassVar[tuple[str, ...]] = ("image", "cell")
    prompt: Text = Field(default="", max_length=4000, description="other words for the variation (remix)")
    cell: int | None = _CELL
    how: Literal["subtle", "strong"] = Field(default="strong", description="subtle or strong")
    count: int = Field(default=4, ge=1, le=64, description="how many pictures")


class Remix(Vary):
    """Paint variations of a picture with other words."""

    asks: ClassVar[tuple[str, ...]] = ("image", "prompt")
    prompt: Text = Field(min_length=1, max_length=4000, description="what the variation shall show")


class Blend(Form):
    """Mix two to five pictures, and words, into new ones."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})
    asks: ClassVar[tuple[str, ...]] = ("images",)
    image: Text = ""  # nothing is painted over: the pictures are mixed
    images: tuple[Text, ...] = Field(min_length=1, max_length=5, description="the pictures to mix")
    prompt: Text = Field(default="", max_length=4000, description="words to mix in")
    weights: Numbers = Field(default=(), description="how much of each picture, such as 2,1")
    strength: float = Field(default=0.8, gt=0, le=1, description="how far to leave the mixed pictures")
    count: int = Field(default=4, ge=1, le=64, description="how many pictures")


class Stylize(Form):
    """Paint a picture again in a style, or in the look of another picture."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})
    prompt: Text = _WORDS
    like: Text | None = Field(default=None, description="a picture whose style is wanted")
    strength: float | None = Field(
        default=None, gt=0, le=1, description="how far to leave the picture; the style's own if not given"
    )


class Upscale(Form):
    """Enlarge a picture, or take one cell of a grid as it is."""

    single: ClassVar[bool] = True
    asks: ClassVar[tuple[str, ...]] = ("image", "cell")
    prompt: Text = _WORDS
    cell: int | None = _CELL
    creative: bool = Field(default=False, description="redraw the picture lightly first, for fresh detail")
    noise_level: int | None = Field(
        default=None,
        ge=0,
        description="noise on the picture, for a model that enlarges by painting; more is freer",
    )

    @property
    def wants(self) -> frozenset[Can]:
        """To redraw, if that is asked."""
        return frozenset({Can.REDRAW}) if self.creative else self.needs


class Describe(Form):
    """Four prompts that could have painted a picture."""

    paints: ClassVar[bool] = False
    single: ClassVar[bool] = True
    asks: ClassVar[tuple[str, ...]] = ("image",)
    prompt: Text = Field(default="", exclude=True)
    language: Literal["en", "zh"] = Field(default="en", description="en or zh")
    captioner: Text | None = Field(
        default=None, description="a folder of a captioning model of transformers, instead of CLIP"
    )


class Edit(Form):
    """Edit a picture by saying what it shall show (Imagic); gives a strip from the old to the new."""

    single: ClassVar[bool] = True
    prompt: Text = Field(min_length=1, max_length=4000, description="what the picture shall show")
    needs: ClassVar[frozenset[Can]] = frozenset({Can.LEARN, Can.WORDS})
    etas: Etas | None = Field(default=None, description="how far towards the words, such as 0,0.5,1")
    effort: float = Field(default=1.0, gt=0, le=20, description="how long to learn it: 2 takes twice as long")
    fast: bool = Field(default=False, description="in seconds, without learning: invert and swap the words")

    def brief(self, **changed: Any) -> Brief:
        """As every form's; `fast` is how to edit here, not how to paint."""
        return super().brief(**{"fast": False, **changed})

    @property
    def marks(self) -> tuple[str, ...]:
        """One picture for every eta, or for every step."""
        if self.fast:
            return ("fast",)
        if self.etas is None:
            return tuple(f"step{k + 1}" for k in range(EDIT_STEPS))
        return tuple(f"eta{eta:g}" for eta in self.etas)


class Animate(Form):
    """Paint a film: each frame is the one before, moved under a camera and painted over.

    Words and moves may change on the way: "0: a red apple | 20: a green apple", --zoom "0: (1), 10: (1.05)".
    """

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})
    asks: ClassVar[tuple[str, ...]] = ("prompt",)
    single: ClassVar[bool] = True
    image: Text = ""
    prompt: Annotated[Text, AfterValidator(_script)] = Field(
        default="", max_length=4000, description="what to paint, or from which frame on to paint what"
    )
    start: Text | None = Field(default=None, description="a picture to start from, instead of words alone")
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
        default=None, description="a settings file of Disco Diffusion, for what is not given here"
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


class Learn(Request):
    """Teach a model a subject from a few pictures, to paint it anywhere."""

    asks: ClassVar[tuple[str, ...]] = ("name", "images")

    name: Text = Field(min_length=1, description="how you will call it: <NAME> in a prompt")
    images: tuple[Text, ...] = Field(min_length=1, description="three to five pictures, or a folder of them")
    kind: Text = Field(default="thing", min_length=1, description="what it is one of, such as cat")
    model: Text = Field(default="stickers", description="a shipped model, a folder of weights or a file")
    method: Text = Field(default="dreambooth", description="dreambooth, textual-inversion or both")
    steps: int = Field(default=400, ge=1, le=100_000, description="more is more alike, then less obedient")
    rank: int = Field(default=16, ge=1, le=256, description="size of what is learned")
    lr: float | None = Field(default=None, gt=0, le=1, description="learning rate")
    prior: int = Field(default=24, ge=0, le=1000, description="pictures of its kind to hold on to, 0 = none")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="fixes all that is random")
