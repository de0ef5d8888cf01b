"""Pixel art 像素: few cells, a small palette chosen for the picture, ordered dithering between its colours.

After Gerstner et al. 2012, with k-means for the palette and Bayer's matrix (1973) for the dither.
"""

from __future__ import annotations

from math import sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from danqing.effects import _filters as f
from danqing.effects._regions import own_colours
from danqing.effects._scene import Array, Scene, Whole

PALETTE = ()
INKS = True
CRISP = True
_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) / 16 - 15 / 32


def pixel_art(scene: Scene) -> Array:
    """Square cells in a small palette."""
    cells = _cells(scene)
    return np.asarray(cells[_nearest(scene, cells, 0)][:, _nearest(scene, cells, 1)])


def _nearest(scene: Scene, cells: Array, axis: int) -> NDArray[np.int_]:
    """The row or column of cells that each of the tile's pixels belongs to."""
    places = np.arange(scene.picture.shape[axis]) + (scene.top, scene.left)[axis] + 0.5
    nearest = (places * cells.shape[axis] / scene.size[axis]).astype(int)
    return np.asarray(np.minimum(nearest, cells.shape[axis] - 1))


def _cells(scene: Scene) -> Array:
    """The picture as cells [rows columns 3]: about 128 x 128 at strength 0.5."""
    whole = scene.whole
    side = 128 * 2 ** (1 - 2 * whole.strength)
    height, width = whole.alpha.shape
    scale = side / sqrt(height * width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smooth = f.kuwahara(whole.picture, 0.4 / scale, sharp=3)
    small = np.clip(cv2.resize(smooth, size, interpolation=cv2.INTER_AREA), 0, 1)
    # sharpened, so that shapes stay clear with so few cells
    small = np.clip(small + 0.6 * (small - f.blur(small, 1.0)), 0, 1)
    lab = f.rich(f.to_lab(small), 1.25)
    palette = scene.colours if len(scene.colours) else whole.once(_palette)
    tiled = np.tile(_BAYER, (size[1] // 4 + 1, size[0] // 4 + 1))[: size[1], : size[0]]
    lab[..., 0] += 9 * tiled
    distance = np.linalg.norm(lab[:, :, None] - f.to_lab(palette[None])[0], axis=-1)
    return np.asarray(palette[distance.argmin(axis=-1)], np.float32)


def _palette(whole: Whole) -> Array:
    lab = f.rich(f.to_lab(own_colours(whole, 20)[None]), 1.25)
    return np.asarray(f.from_lab(lab)[0])
