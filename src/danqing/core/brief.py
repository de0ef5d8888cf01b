"""The one request: what to paint. Python, command line and servers share it; every picture holds it."""

from __future__ import annotations

import re
import secrets
import unicodedata
from itertools import product
from math import ceil, floor, log
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief, shorten, unknown
from danqing.core.request import Request

SEED_MAX = 2**32 - 1  # the range of A1111 and Midjourney, so that seeds travel between programs
SIDE_MAX = 2048
RATIO_MAX = 4  # a picture longer than 4:1 is far from anything a model has seen
PROMPT_MAX = 4000  # characters; both prompts in both metadata chunks must fit the 64 KiB of a JPEG's EXIF


def _printable(text: str) -> str:
    # an escape sequence would otherwise reach the terminal of whoever reads the picture's metadata
    bad = next((c for c in text if unicodedata.category(c) == "Cc" and c not in "\n\r\t"), None)
    if bad is not None:
        raise ValueError(f"the control character {bad!r} cannot be painted: leave it out")
    return text


def _weighted(value: object) -> object:
    """Text such as my-cat:0.8,ink -> {"my-cat": 0.8, "ink": 1}, as a command line gives it."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    split = [part.rpartition(":") for part in parts]
    return {
        name or part: weight if name else 1.0 for part, (name, _, weight) in zip(parts, split, strict=True)
    }


Side = Annotated[int, Field(ge=8, le=SIDE_MAX)]
Text = Annotated[str, AfterValidator(_printable)]


class Brief(Request):
    """What to paint. Frozen; a field left at None is decided by the model's card in `resolved`.

    Sizes are pixels of the finished picture. Picture k of `count` has the seed `seed + k`, and a brief with
    that seed and `count=1` paints the same picture alone.
    """

    prompt: Text = Field(max_length=PROMPT_MAX, description="what to paint, in English or Chinese")
    negative_prompt: Text = Field(
        default="", max_length=PROMPT_MAX, description="what to keep out of the picture"
    )
    style: Text | None = Field(default=None, description="a style the model knows, such as 3d or paper-cut")
    model: Text = Field(
        default="stickers",
        min_length=1,
        description="a shipped model, a folder of weights or a .safetensors file",
    )
    seed: int | None = Field(
        default=None, ge=0, le=SEED_MAX, description="number that decides the picture; picture k has seed + k"
    )
    variation: float = Field(
        default=0.0, ge=0, le=1, description="how far from the seed's picture towards another, 0 = not at all"
    )
    variation_seed: int | None = Field(
        default=None,
        ge=0,
        le=SEED_MAX,
        description="the other seed; picture k has this + k, and the same seed",
    )
    count: int = Field(default=1, ge=1, le=64, description="how many pictures")
    width: Side | None = Field(default=None, description="width in pixels")
    height: Side | None = Field(default=None, description="height in pixels")
    native: bool = Field(default=False, description="the model's own size, without the upscaler")
    steps: int | None = Field(
        default=None, ge=1, le=1000, description="denoising steps: more is finer and slower"
    )
    guidance: float | None = Field(
        default=None, ge=0, le=50, description="how strictly to follow the words: 1 is loose, 10 is strict"
    )
    fast: bool = Field(default=False, description="in a few steps: several times sooner, a little coarser")
    rescale: float = Field(
        default=0.0, ge=0, le=1, description="guidance rescale (arXiv 2305.08891), 0 = off"
    )
    sampler: Text | None = Field(default=None, description="how to walk from noise to picture, such as euler")
    image: Text | None = Field(default=None, description="the picture to start from")
    mask: Text | None = Field(default=None, description="a picture of the same size, white where to repaint")
    strength: float | None = Field(
        default=None, gt=0, le=1, description="how far to leave a given picture: 0.2 touches up, 1 repaints"
    )
    tile: bool = Field(default=False, description="a picture that repeats without a seam")
    stylize: int = Field(
        default=100, ge=0, le=1000, description="how much of the model's own taste, 100 = as it learned"
    )
    chaos: int = Field(default=0, ge=0, le=100, description="how far the pictures of a grid differ")
    weird: int = Field(default=0, ge=0, le=3000, description="how far to leave the usual look")
    adapters: Annotated[dict[str, float], BeforeValidator(_weighted)] = Field(
        default_factory=dict, max_length=16, description="what was learned, by name or file, and its weight"
    )
    background: str = Field(
        default="white",
        pattern=r"^(transparent|white|#[0-9a-fA-F]{6})$",
        description="what is behind the drawing: transparent, white or #rrggbb",
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not self.prompt.strip() and self.image is None:
            raise ValueError("prompt is empty: say what to paint, such as 'a red apple, 3d style'")
        for name, seed in (("seed", self.seed), ("variation_seed", self.variation_seed)):
            if seed is not None and seed + self.count - 1 > SEED_MAX:
                raise ValueError(
                    f"{name} {seed} + count {self.count} passes {SEED_MAX}: choose a smaller seed"
                )
        return self

    @classmethod
    def of(cls, prompt: str, **fields: object) -> Self:
        """A brief from loose values, with a one-line error instead of a validation report.

        Raises:
            BadBrief: naming the field, the value and what is allowed.
        """
        return cls.of_values(prompt=prompt, **fields)

    def resolved(self, card: Card) -> ResolvedBrief:
        """The same brief with every open field decided by `card`: repainting it needs nothing else.

        Raises:
            BadBrief: the model cannot paint it (size off the grid, unknown style, no alpha, tiles, sampler or
                fast way).
        """
        if self.background != "white" and Can.ALPHA not in card.can:
            raise BadBrief(
                f"model {card.name!r} paints on white only: background {self.background!r} needs another"
            )
        if self.sampler and not card.sampler:
            raise BadBrief(
                f"model {card.name!r} has no sampler to choose: leave sampler {shorten(self.sampler)!r} out"
            )
        if self.tile and Can.TILE not in card.can:
            raise BadBrief(f"model {card.name!r} paints no tiles: leave tile out, or choose another model")
        scale = 1 if self.native else card.scale
        width, height = self.width or card.width * scale, self.height or card.height * scale
        _check_grid(width, height, card.grid * scale)
        steps, guidance, sampler = self._pace(card)
        other = _seed(self.variation_seed, self.count) if self.variation else None
        return self.completed(
            style=_style_name(self.style, card),
            seed=_seed(self.seed, self.count),
            variation_seed=other,
            width=width,
            height=height,
            steps=self.steps or steps,
            guidance=guidance if self.guidance is None else self.guidance,
            sampler=self.sampler or sampler,
        )

    def completed(self, **values: object) -> ResolvedBrief:
        """The brief with `values` in its open fields, which are not validated again."""
        changed = self.model_copy(update=values)
        return ResolvedBrief.model_construct(_fields_set=changed.model_fields_set, **dict(changed))

    def _pace(self, card: Card) -> tuple[int, float, str]:
        """Steps, guidance and sampler where the brief leaves them open."""
        if not self.fast:
            return card.steps, card.guidance, card.sampler
        if card.fast is None:
            raise BadBrief(
                f"model {card.name!r} has learned no fast way: leave fast out, or give fewer steps"
            )
        return card.fast.steps, card.fast.guidance, card.fast.sampler


class ResolvedBrief(Brief):
    """A brief that leaves nothing open: what painters are given, and what pictures hold.

    variation_seed: None only where `variation` is 0.
    sampler: empty where the model has none to choose.
    """

    seed: int
    width: Side
    height: Side
    steps: int
    guidance: float
    sampler: Text

    def alone(self, k: int) -> ResolvedBrief:
        """The brief that paints picture `k` of this one by itself."""
        name = "variation_seed" if self.variation else "seed"
        return self.model_copy(update={name: self.seeds[k], "count": 1})

    @property
    def seeds(self) -> range:
        """The number that differs from picture to picture: the seed, or in variations the other seed."""
        first = self.variation_seed if self.variation and self.variation_seed is not None else self.seed
        return range(first, first + self.count)


def _seed(given: int | None, count: int) -> int:
    return secrets.randbelow(SEED_MAX - count) if given is None else given


def sides_for_ratio(ratio: str, card: Card, *, native: bool = False) -> tuple[int, int]:
    """Width and height of the shape `ratio` ("3:2") with the area of the model's own size, on its grid.

    Raises:
        BadBrief: not W:H in positive whole numbers, or beyond 4:1.
    """
    parts = re.fullmatch(
        r"\s*([1-9]\d{0,3})\s*[:：]\s*([1-9]\d{0,3})\s*", ratio
    )  # ： is from a Chinese keyboard
    if parts is None:
        raise BadBrief(f"ar {shorten(ratio)!r} is not W:H: give two whole numbers such as 3:2")
    shape = int(parts[1]) / int(parts[2])
    if not 1 / RATIO_MAX <= shape <= RATIO_MAX:
        raise BadBrief(f"ar {ratio} is too long: choose between 1:{RATIO_MAX} and {RATIO_MAX}:1")
    cells = card.width * card.height / card.grid**2
    ideal = (cells * shape) ** 0.5, (cells / shape) ** 0.5

    def miss(sides: tuple[int, int]) -> float:  # a wrong shape shows more than a wrong area
        w, h = sides
        return 2 * abs(log(w / h / shape)) + abs(log(w * h / cells))

    near = [(max(1, floor(side)), max(1, ceil(side))) for side in ideal]
    width, height = min(product(*near), key=miss)
    step = card.grid * (1 if native else card.scale)
    return width * step, height * step


def _style_name(style: str | None, card: Card) -> str | None:
    if style is None or style in card.styles:
        return style
    for name, words in card.styles.items():  # "剪纸" and "paper cut" mean the style paper-cut
        if style.lower() in (name.lower(), *(word.strip().lower() for word in words.split("/"))):
            return name
    raise BadBrief(unknown("style", style, card.styles))


def _check_grid(width: int, height: int, grid: int) -> None:
    for name, side in (("width", width), ("height", height)):
        if side % grid:
            near = [n for n in (side // grid * grid, side // grid * grid + grid) if 0 < n <= SIDE_MAX]
            raise BadBrief(f"{name} {side} is not a multiple of {grid}: use {' or '.join(map(str, near))}")
