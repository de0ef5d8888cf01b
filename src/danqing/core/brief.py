"""The request of a picture. Python, command line and servers share it; every picture keeps it as metadata."""

from __future__ import annotations

import re
import secrets
from itertools import product
from math import ceil, floor, log
from typing import Self

from pydantic import Field, model_validator

from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief, shorten, unknown
from danqing.core.field_groups import (
    SEED_MAX,
    SIDE_MAX,
    AdapterChoice,
    Background,
    ControlChoice,
    Count,
    Fast,
    Midjourney,
    ModelChoice,
    RefinerChoice,
    Sampling,
    SeedChoice,
    Side,
    Size,
    Strength,
    Text,
    Tile,
    VAEChoice,
    Words,
)
from danqing.core.half_width import half_width

RATIO_MAX = 4  # a picture longer than 4:1 is far from all training pictures
_SEEDS = 2**31  # random seeds are drawn below it: short enough to type


class Brief(
    ControlChoice,
    Background,
    AdapterChoice,
    Midjourney,
    Tile,
    Fast,
    Sampling,
    Size,
    Count,
    SeedChoice,
    RefinerChoice,
    VAEChoice,
    ModelChoice,
    Words,
):
    """What to paint. Frozen; a field left at None is decided by the model's card in `resolve`.

    Sizes are pixels of the finished picture. Picture k of `count` has the seed `seed + k`, and a brief with
    that seed and `count=1` paints the same picture alone.

    image, mask, control: names of the input pictures, for the metadata only; apps read the pictures.
    """

    image: Text | None = Field(default=None, description="the picture to start from")
    mask: Text | None = Field(default=None, description="a picture of the same size, white where to repaint")
    strength: Strength | None = Field(
        default=None, description="how far to leave a given picture: 0.2 touches up, 1 repaints"
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
        """A brief from unvalidated values, with a one-line error instead of pydantic's report.

        Raises:
            BadBrief: a value is wrong; the message names the field, the value and what is allowed.
        """
        return cls.of_values(prompt=prompt, **fields)

    def resolve(self, card: Card) -> ResolvedBrief:
        """The brief with each field that is None filled from `card`; it is all that a repaint needs.

        Raises:
            BadBrief: the model cannot paint it: the size is no multiple of `card.size_multiple`, the style
                or the sampler is unknown, or the model has no alpha, no tiling or no method for `fast`.
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
        _check_grid(width, height, card.size_multiple * scale)
        steps, guidance, sampler = self._pace(card)
        other = self._or_random(self.variation_seed) if self.variation else None
        return self.complete(
            style=_style_name(self.style, card),
            seed=self._or_random(self.seed),
            variation_seed=other,
            width=width,
            height=height,
            steps=self.steps or steps,
            guidance=guidance if self.guidance is None else self.guidance,
            sampler=self.sampler or sampler,
        )

    def complete(self, **values: object) -> ResolvedBrief:
        """The brief with `values` in the fields that are None; nothing is validated again."""
        changed = self.model_copy(update=values)
        return ResolvedBrief.model_construct(_fields_set=changed.model_fields_set, **dict(changed))

    @staticmethod
    def _or_random(seed: int | None) -> int:
        return random_seed() if seed is None else seed

    def _pace(self, card: Card) -> tuple[int, float, str]:
        """Steps, guidance and sampler: those of the brief, or the card's where the brief has None."""
        if not self.fast:
            return card.steps, card.guidance, card.sampler
        if card.fast is None:
            raise BadBrief(
                f"model {card.name!r} has learned no fast way: leave fast out, or give fewer steps"
            )
        return card.fast.steps, card.fast.guidance, card.fast.sampler


class ResolvedBrief(Brief):
    """A brief in which every field has its value: painters take it, and pictures keep it as metadata.

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
        """The seed of each picture: `seed` counted up or, in a variation, `variation_seed` counted up."""
        first = self.variation_seed if self.variation and self.variation_seed is not None else self.seed
        return range(first, first + self.count)


RESOLVED_FIELDS = ("seed", "width", "height", "steps", "guidance", "sampler")
"""The fields that may be None in a brief, but not in a resolved one."""


def random_seed() -> int:
    """A seed for a request that gives none."""
    return secrets.randbelow(_SEEDS)


def sides_like(size: tuple[int, int], card: Card, *, native: bool = False) -> tuple[int, int]:
    """As `sides_for_ratio`, for the aspect ratio of `size`, which is first limited to at most 4:1."""
    shape = min(RATIO_MAX, max(1 / RATIO_MAX, size[0] / size[1]))
    return sides_for_ratio(f"{max(1, round(shape * 1000))}:1000", card, native=native)


def sides_for_ratio(ratio: str, card: Card, *, native: bool = False) -> tuple[int, int]:
    """Width and height for an aspect ratio such as "3:2": about the area of the model's own size.

    Both are multiples of `card.size_multiple`.

    Raises:
        BadBrief: the ratio is not W:H in positive whole numbers, or is beyond 4:1.
    """
    parts = re.fullmatch(r"\s*([1-9]\d{0,3})\s*[:xX×/]\s*([1-9]\d{0,3})\s*", half_width(ratio))
    if parts is None:
        raise BadBrief(f"ar {shorten(ratio)!r} is not W:H: give two whole numbers such as 3:2")
    shape = int(parts[1]) / int(parts[2])
    if not 1 / RATIO_MAX <= shape <= RATIO_MAX:
        raise BadBrief(f"ar {ratio} is too long: choose between 1:{RATIO_MAX} and {RATIO_MAX}:1")
    cells = card.width * card.height / card.size_multiple**2
    ideal = (cells * shape) ** 0.5, (cells / shape) ** 0.5

    def miss(sides: tuple[int, int]) -> float:  # a wrong shape shows more than a wrong area
        w, h = sides
        return 2 * abs(log(w / h / shape)) + abs(log(w * h / cells))

    near = [(max(1, floor(side)), max(1, ceil(side))) for side in ideal]
    width, height = min(product(*near), key=miss)
    step = card.size_multiple * (1 if native else card.scale)
    return width * step, height * step


def _style_name(style: str | None, card: Card) -> str | None:
    if style is None or style in card.styles:
        return style
    for name, words in card.styles.items():
        if style_key(style) in map(style_key, (name, *words.split("/"))):
            return name
    raise BadBrief(unknown("style", style, card.styles))


def style_key(text: str) -> str:
    """A key that all spellings of a style share: "剪纸风格" and 剪纸, "Paper Cut style" and paper-cut."""
    key = re.sub(r"[\s_-]+", "-", text.strip().casefold())
    return key.removesuffix("-style").removesuffix("风格") or key


def _check_grid(width: int, height: int, grid: int) -> None:
    for name, side in (("width", width), ("height", height)):
        if side % grid:
            near = [n for n in (side // grid * grid, side // grid * grid + grid) if 0 < n <= SIDE_MAX]
            raise BadBrief(f"{name} {side} is not a multiple of {grid}: use {' or '.join(map(str, near))}")
