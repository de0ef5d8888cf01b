"""Fills a region of a photo from its surroundings, to remove scratches, specks and small things.

Two methods with different errors are averaged: biharmonic surfaces (Damelin and Hoang 2018), which continue
shading, and frequency selective reconstruction (Genser et al. 2017), which continues texture.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.restoration import inpaint_biharmonic

Array = NDArray[Any]

AROUND = 24  # pixels: width of the surroundings that are used
# pixels: larger regions are filled by shading alone, since texture would take many seconds
TEXTURE_MOST = 60_000


def fill_damage(image: Image.Image, region: Image.Image) -> Image.Image:
    """The picture with `region` ("L" of its size, not 0 = fill) filled; all other pixels keep their bytes.

    The alpha of a transparent picture stays as it is.
    """
    box = region.getbbox()
    if box is None:
        return image.copy()
    wide = (
        max(0, box[0] - AROUND),
        max(0, box[1] - AROUND),
        min(image.width, box[2] + AROUND),
        min(image.height, box[3] + AROUND),
    )
    unknown = np.asarray(region.crop(wide)) > 0
    picture = np.asarray(image.crop(wide).convert("RGB"))
    colours = _shading(picture, unknown)
    if unknown.sum() <= TEXTURE_MOST and not unknown.all():
        colours = (colours + _texture(picture, unknown)) / 2
    after = picture.copy()
    after[unknown] = colours.clip(0, 255).round()[unknown]
    part = Image.fromarray(after)
    if image.mode == "RGBA":
        part.putalpha(image.crop(wide).getchannel("A"))
    done = image.copy()
    done.paste(part, wide[:2], Image.fromarray(unknown.astype(np.uint8) * 255))
    return done


def thickness(region: Image.Image) -> float:
    """The largest distance of a point in a region ("L", not 0 = inside) from the region's border, in pixels.

    The edge of the picture does not count as a border.
    """
    inside = (np.asarray(region) > 0).astype(np.uint8)
    return float(cv2.distanceTransform(inside, cv2.DIST_L2, 5).max())


def _shading(picture: Array, unknown: NDArray[np.bool_]) -> Array:
    smooth = inpaint_biharmonic(picture, unknown, channel_axis=-1, split_into_regions=True)
    return np.asarray(smooth * 255, np.float32)


def _texture(picture: Array, unknown: NDArray[np.bool_]) -> Array:
    done = np.zeros_like(picture)
    usable = np.where(unknown, 0, 255).astype(np.uint8)
    cv2.xphoto.inpaint(np.ascontiguousarray(picture), usable, done, cv2.xphoto.INPAINT_FSR_FAST)
    return done.astype(np.float32)
