"""Small groups of request fields. A brief and the inputs of each app are composed of them.

`GROUP` is the heading of the group in a form. A form also needs units, slider steps, the source of choices
and a mark for expert fields: these are in the JSON schema of each field.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from danqing.core.half_width import half_width, split_marks
from danqing.core.request import FrozenModel
from danqing.core.savings import Savings

SEED_MAX = 2**32 - 1  # the range of A1111 and Midjourney, so that programs can exchange seeds
SIDE_MAX = 2048
_COMMA = re.compile("(,)")
PROMPT_MAX = 4000  # characters; both prompts in both metadata chunks must fit the 64 KiB of a JPEG's EXIF


def _printable(text: str) -> str:
    # an escape sequence would otherwise reach the terminal of whoever reads the picture's metadata
    bad = next((c for c in text if unicodedata.category(c) == "Cc" and c not in "\n\r\t"), None)
    if bad is not None:
        raise ValueError(f"the control character {bad!r} cannot be painted: leave it out")
    return text


def split_commas(text: str) -> list[str]:
    """The items of a list in a text, such as 0,0.5,1; the full-width ， counts as a comma."""
    _, parts = split_marks(_COMMA, text)
    return [part.strip() for part in parts[::2] if part.strip()]


def _parse_weights(value: object) -> object:
    """Text of a command line such as my-cat:0.8,ink -> {"my-cat": 0.8, "ink": 1}."""
    if not isinstance(value, str):
        return value
    return dict(map(_name_and_weight, split_commas(value)))


def _name_and_weight(text: str) -> tuple[str, object]:
    name, colon, weight = half_width(text).rpartition(":")
    return (text[: len(name)], weight) if name and colon else (text, 1.0)


Side = Annotated[int, Field(ge=8, le=SIDE_MAX)]
Text = Annotated[str, AfterValidator(_printable)]
Seed = Annotated[int, Field(ge=0, le=SEED_MAX)]
Strength = Annotated[float, Field(gt=0, le=1)]
Weights = Annotated[dict[str, float], BeforeValidator(_parse_weights)]


class ModelChoice(FrozenModel):
    """Which model paints."""

    GROUP: ClassVar[str] = "model"

    model: Text = Field(
        default="stickers",
        min_length=1,
        description="a shipped model, a folder of weights or a .safetensors file",
        json_schema_extra={"choices_from": "models"},
    )


class VAEChoice(FrozenModel):
    """Which VAE makes pixels of latents."""

    GROUP: ClassVar[str] = "model"

    vae: Text | None = Field(
        default=None,
        min_length=1,
        description="another VAE: a .safetensors file or a folder",
        json_schema_extra={"advanced": True},
    )


class RefinerChoice(FrozenModel):
    """Which model paints the last steps."""

    GROUP: ClassVar[str] = "model"

    refiner: Text | None = Field(
        default=None,
        min_length=1,
        description="a second model for the last steps, as XL's refiner",
        json_schema_extra={"advanced": True},
    )
    refiner_at: float = Field(
        default=0.8,
        gt=0,
        lt=1,
        description="after which share of the steps the refiner goes on",
        json_schema_extra={"step": 0.05, "advanced": True},
    )


class Words(FrozenModel):
    """What to paint, in words."""

    GROUP: ClassVar[str] = "words"

    prompt: Text = Field(max_length=PROMPT_MAX, description="what to paint, in English or Chinese")
    negative_prompt: Text = Field(
        default="", max_length=PROMPT_MAX, description="what to keep out of the picture"
    )
    weighting: Literal["a1111", "comfy", "compel"] = Field(
        default="a1111",
        description="what (word:1.3) does: as in A1111, ComfyUI or Compel",
        json_schema_extra={"advanced": True},
    )
    style: Text | None = Field(
        default=None,
        description="a style the model knows, such as 3d or paper-cut",
        json_schema_extra={"choices_from": "styles"},
    )


class SeedChoice(FrozenModel):
    """The numbers that decide the noise, and with it the picture."""

    GROUP: ClassVar[str] = "seed"

    seed: Seed | None = Field(
        default=None, description="number that decides the picture; picture k has seed + k"
    )
    variation: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="how far from the seed's picture towards another, 0 = not at all",
        json_schema_extra={"step": 0.05, "advanced": True},
    )
    variation_seed: Seed | None = Field(
        default=None,
        description="the other seed; picture k has this + k, and the same seed",
        json_schema_extra={"advanced": True},
    )


class Count(FrozenModel):
    """How many pictures."""

    GROUP: ClassVar[str] = "size"

    count: int = Field(
        default=1, ge=1, le=64, description="how many pictures", json_schema_extra={"unit": "pictures"}
    )


class Size(FrozenModel):
    """How large the finished pictures are."""

    GROUP: ClassVar[str] = "size"

    width: Side | None = Field(
        default=None, description="width in pixels", json_schema_extra={"unit": "pixels"}
    )
    height: Side | None = Field(
        default=None, description="height in pixels", json_schema_extra={"unit": "pixels"}
    )
    native: bool = Field(default=False, description="the model's own size, without the upscaler")


class Fast(FrozenModel):
    """Few steps instead of many."""

    GROUP: ClassVar[str] = "sampling"

    fast: bool = Field(default=False, description="in a few steps: several times sooner, a little coarser")


class Anyway(FrozenModel):
    """To go on where danqing would rather not."""

    GROUP: ClassVar[str] = "model"

    anyway: bool = Field(
        default=False,
        description="go on where danqing warns or stops",
    )


class Sampling(Savings):
    """How to go from noise to a picture."""

    GROUP: ClassVar[str] = "sampling"

    steps: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="denoising steps: more is finer and slower",
        json_schema_extra={"unit": "steps"},
    )
    guidance: float | None = Field(
        default=None,
        ge=0,
        le=50,
        description="how strictly to follow the words: 1 is loose, 10 is strict",
        json_schema_extra={"step": 0.5},
    )
    rescale: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="guidance rescale (arXiv 2305.08891), 0 = off",
        json_schema_extra={"step": 0.05, "advanced": True},
    )
    sampler: Text | None = Field(
        default=None,
        description="how to walk from noise to picture, such as euler",
        json_schema_extra={"choices_from": "samplers", "advanced": True},
    )


class Midjourney(FrozenModel):
    """Midjourney's parameters for how far to leave the prompt; see `conditioning.midjourney`."""

    GROUP: ClassVar[str] = "look"

    stylize: int = Field(
        default=100,
        ge=0,
        le=1000,
        description="how much of the model's own taste, 100 = as it learned",
        json_schema_extra={"step": 50},
    )
    chaos: int = Field(
        default=0,
        ge=0,
        le=100,
        description="how far the pictures of a grid differ",
        json_schema_extra={"step": 5},
    )
    weird: int = Field(
        default=0,
        ge=0,
        le=3000,
        description="how far to leave the usual look",
        json_schema_extra={"step": 50},
    )


class Tile(FrozenModel):
    """Pictures that repeat."""

    GROUP: ClassVar[str] = "look"

    tile: bool = Field(default=False, description="a picture that repeats without a seam")


class AdapterChoice(FrozenModel):
    """What was learned from a few pictures."""

    GROUP: ClassVar[str] = "model"

    adapters: Weights = Field(
        default_factory=dict,
        max_length=16,
        description="what was learned, by name or file, and its weight",
        json_schema_extra={"choices_from": "adapters"},
    )


class Background(FrozenModel):
    """What is behind the drawing."""

    GROUP: ClassVar[str] = "look"
    PATTERNS: ClassVar[dict[str, str]] = {"background": "transparent, white or #rrggbb"}

    background: str = Field(
        default="white",
        pattern=r"^(transparent|white|#[0-9a-fA-F]{6})$",
        description="what is behind the drawing: transparent, white or #rrggbb",
    )


class ControlChoice(FrozenModel):
    """What pictures follow besides the words, as they keep it in their metadata; see `core.control`."""

    GROUP: ClassVar[str] = "control"

    control: tuple[Text, ...] = Field(default=(), max_length=8, description="maps that it follows")
    control_model: tuple[Text, ...] = Field(
        default=(), max_length=8, description="the ControlNets that follow them"
    )
    ip_image: tuple[Text, ...] = Field(default=(), max_length=8, description="pictures as prompts")
    ip_adapter: tuple[Text, ...] = Field(
        default=(), max_length=8, description="the IP-Adapters that look at them"
    )
