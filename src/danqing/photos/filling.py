"""A part of a photo filled from what is around it: scratches, specks, and small things to be gone.

Two ways that err differently are averaged: biharmonic surfaces (Damelin and Hoang 2018), which carry on
shading, and frequency selective reconstruction (Genser et al. 2017), which carries on texture.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.restoration import inpaint_biharmonic

Array = NDArray[Any]

AROUND = 24  # pixels: how much of what is around is looked at
TEXTURE_MOST = 60_000  # pixels: more are filled by shading alone, as texture takes seconds for so many


def fill_damage(image: Image.Image, region: Image.Image) -> Image.Image:
    """A picture with `region` ("L" of its size, not 0 = unknown) filled; the rest keeps its very bytes.

    Of a picture with transparency the colours are filled.
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
    """How far the deepest place of a region ("L", not 0 = inside) is from its border, in pixels.

    What lies at the edge of the picture has no border there.
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
