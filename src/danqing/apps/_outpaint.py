"""Paint on beyond a picture's edges: a larger canvas, a mask, and inpainting.

What is new is first filled with the picture's own mirror image, fades from that into what is painted, and is
added in rounds of at most half a side, so that each round sees enough of what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from danqing.apps._inpaint import inpaint_region
from danqing.apps._job import Job
from danqing.core.errors import BadBrief
from danqing.core.picture import PIXELS_MAX, Picture

_ROUND = 0.5  # of a side, at most, in one round
_FADE = 32  # pixels from the mirror image to what is painted


@dataclass(frozen=True)
class Sides:
    """Pixels to add."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def of(cls, size: tuple[int, int], left: float, top: float, right: float, bottom: float) -> Sides:
        """From shares of the picture's width and height."""
        width, height = size
        return cls(round(left * width), round(top * height), round(right * width), round(bottom * height))

    def round(self, size: tuple[int, int]) -> Sides:
        """As much of it as one round may add to a picture of this size."""
        wide, high = (max(1, int(side * _ROUND)) for side in size)
        return Sides(min(self.left, wide), min(self.top, high), min(self.right, wide), min(self.bottom, high))

    def less(self, other: Sides) -> Sides:
        """What is left to add."""
        return Sides(
            self.left - other.left, self.top - other.top, self.right - other.right, self.bottom - other.bottom
        )

    @property
    def any(self) -> bool:
        """Whether there is anything to add."""
        return bool(self.left or self.top or self.right or self.bottom)


def outpaint_sides(job: Job[Any], sides: Sides) -> Iterator[Picture]:
    """The job's picture with `sides` added, one for each seed.

    Raises:
        BadBrief: there is nothing to add, or the result passes 32 megapixels.
    """
    image = job.source.image
    width, height = image.width + sides.left + sides.right, image.height + sides.top + sides.bottom
    if not sides.any:
        raise BadBrief("nothing to add: give more, such as right 0.5 or by 1.5")
    if width * height > PIXELS_MAX:
        raise BadBrief(f"{width}x{height} is above {PIXELS_MAX // 1_000_000} megapixels: add less")
    words = job.words()
    seeds = job.inputs.brief(**words).resolved(job.card).seeds
    return (_outpainted(job, sides, seed=seed, count=1, **words) for seed in seeds)


def _outpainted(job: Job[Any], sides: Sides, **changes: Any) -> Picture:
    image = job.source.image
    while True:
        now = sides.round(image.size)
        canvas, region, cover = _canvas(image, now)
        [picture] = inpaint_region(job, canvas, region, cover, **changes)
        image, sides = picture.image, sides.less(now)
        if not sides.any:
            return picture


def _canvas(image: Image.Image, add: Sides) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The picture with its mirror image around it, the region that is new, and how the new fades in."""
    around = ((add.top, add.bottom), (add.left, add.right))
    mirrored = Image.fromarray(np.pad(np.asarray(image), (*around, (0, 0)), mode="symmetric"))
    across = np.pad(np.zeros(image.width), around[1], mode="linear_ramp", end_values=(add.left, add.right))
    down = np.pad(np.zeros(image.height), around[0], mode="linear_ramp", end_values=(add.top, add.bottom))
    distance = np.maximum(across[None, :], down[:, None])
    region = Image.fromarray(((distance > 0) * 255).astype(np.uint8))
    cover = Image.fromarray((distance / _FADE * 255).clip(0, 255).astype(np.uint8))
    return mirrored, region, cover
