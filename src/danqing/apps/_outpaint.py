"""Extends a picture beyond its edges: a larger canvas, a mask, and inpainting.

The new area is first filled with the mirror image of the picture, from which the result fades into the
painted pixels. It is added in rounds of at most half a side, so that each round has enough of the picture as
context.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.apps._inpaint import inpaint_region
from danqing.apps._inputs import PictureInputs
from danqing.apps._job import Job
from danqing.apps._photo_fill import plain_picture
from danqing.apps._photos import image_name
from danqing.apps._session import Session
from danqing.core.errors import BadBrief
from danqing.core.picture import PIXELS_MAX, Picture

_ROUND = 0.5  # the largest fraction of a side to add in one round
MIRROR_MOST = 0.1  # fraction of a photo's shorter side; in a wider strip one sees the mirror image
_FADE = 32  # width in pixels of the transition from the mirror image to the painted area


@dataclass(frozen=True)
class Sides:
    """Pixels to add."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def of(cls, size: tuple[int, int], left: float, top: float, right: float, bottom: float) -> Sides:
        """The pixels for fractions of the picture's width and height."""
        width, height = size
        return cls(round(left * width), round(top * height), round(right * width), round(bottom * height))

    def round(self, size: tuple[int, int]) -> Sides:
        """The part that one round may add to a picture of this size."""
        wide, high = (max(1, int(side * _ROUND)) for side in size)
        return Sides(min(self.left, wide), min(self.top, high), min(self.right, wide), min(self.bottom, high))

    def less(self, other: Sides) -> Sides:
        """What is left to add after `other`."""
        return Sides(
            self.left - other.left, self.top - other.top, self.right - other.right, self.bottom - other.bottom
        )

    @property
    def any(self) -> bool:
        """Whether there is anything to add."""
        return bool(self.left or self.top or self.right or self.bottom)


def outpaint_sides(job: Job[Any], sides: Sides) -> Iterator[Picture]:
    """Extend the job's picture by `sides`, once for each seed.

    Raises:
        BadBrief: there is nothing to add, or the result has more than 100 megapixels.
    """
    image = job.source.image
    width, height = image.width + sides.left + sides.right, image.height + sides.top + sides.bottom
    if not sides.any:
        raise BadBrief("nothing to add: give more, such as right 0.5 or by 1.5")
    if width * height > PIXELS_MAX:
        raise BadBrief(f"{width}x{height} is above {PIXELS_MAX // 1_000_000} megapixels: add less")
    words = job.words()
    seeds = job.inputs.brief(**words).resolve(job.card).seeds
    return (_outpaint(job, sides, seed=seed, count=1, **words) for seed in seeds)


def carry_on(app: str, inputs: PictureInputs, session: Session, sides: Sides) -> Iterator[Picture]:
    """Extend a photo by narrow `sides` with its mirror image.

    Raises:
        BadBrief: the sides are too wide for that.
    """
    image, start = inputs.image.source.image, perf_counter()
    most = round(MIRROR_MOST * min(image.size))
    widest = max(sides.left, sides.top, sides.right, sides.bottom)
    if widest > most:
        raise BadBrief(
            f"{image_name(inputs.image)} is a photo, and {widest} pixels are too many to carry on from its"
            f" edge ({most} at most): --model sd15-inpaint paints them, --anyway paints a drawing there"
        )
    inputs.add_notes(
        f"{image_name(inputs.image)} is a photo: it is carried on from what lies along its edge, not painted"
    )
    yield plain_picture(app, inputs, session, _mirror(image, sides), start)


def _outpaint(job: Job[Any], sides: Sides, **changes: Any) -> Picture:
    image = job.source.image
    while True:
        now = sides.round(image.size)
        canvas, region, cover = _canvas(image, now)
        [picture] = inpaint_region(job, canvas, region, cover, **changes)
        image, sides = picture.image, sides.less(now)
        if not sides.any:
            return picture


def _canvas(image: Image.Image, add: Sides) -> tuple[Image.Image, Image.Image, Image.Image]:
    """The picture with its mirror image around it, the region of the new area, and its cover."""
    across, down = _fade(add.left, image.width, add.right), _fade(add.top, image.height, add.bottom)
    cover = Image.fromarray(np.maximum(across[None, :], down[:, None]))
    region = cover.point(lambda value: 255 if value else 0)
    return _mirror(image, add), region, cover


def _fade(before: int, kept: int, after: int) -> NDArray[np.uint8]:
    """The cover along one side: 0 on the picture, rising to 255 within 32 pixels beyond it."""
    distance = np.concatenate([np.arange(before, 0, -1), np.zeros(kept), np.arange(1, after + 1)])
    return (distance / _FADE * 255).clip(0, 255).astype(np.uint8)


def _mirror(image: Image.Image, add: Sides) -> Image.Image:
    """The picture surrounded by parts of its mirror image, each at most as large as the picture."""
    right, bottom = add.left + image.width, add.top + image.height
    canvas = Image.new(image.mode, (right + add.right, bottom + add.bottom))
    canvas.paste(image, (add.left, add.top))
    for x, start, width in ((0, add.left, add.left), (right, right - add.right, add.right)):
        part = canvas.crop((start, add.top, start + width, bottom))
        canvas.paste(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (x, add.top))
    for y, start, height in ((0, add.top, add.top), (bottom, bottom - add.bottom, add.bottom)):
        part = canvas.crop((0, start, canvas.width, start + height))
        canvas.paste(part.transpose(Image.Transpose.FLIP_TOP_BOTTOM), (0, y))
    return canvas
