"""Rendered styles: turn real drawings into paper-cuts, porcelain painting and ink wash.

Each filter maps an RGBA float array [h w 4] in [0, 1], straight alpha, to another one, and depends on
(picture, seed) only. Lengths are fractions of the picture's side, so that a style looks the same at 128 and
512 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
Filter = Callable[[Array, int], Array]

FILTERS: dict[str, Filter] = {}


def style_filter(name: str) -> Callable[[Filter], Filter]:
    """Register a filter under the name of the style it makes."""

    def register(function: Filter) -> Filter:
        FILTERS[name] = function
        return function

    return register


@style_filter("paper-cut")
def paper_cut(picture: Array, _seed: int) -> Array:
    """剪纸, paper-cut: one sheet of red paper; inner contours and the darkest parts are cut out."""
    side = picture.shape[0]
    edges = _edges(picture, 0.006 * side)
    sheet = picture[..., 3] * _smooth(0.30 - edges, 0.06)
    dark = _smooth(0.22 - _luminance(picture), 0.05) * _erode(picture[..., 3], 0.012 * side)
    alpha = np.clip(sheet - dark, 0, 1)
    return _flat_colour((0.78, 0.09, 0.11), alpha)


@style_filter("porcelain")
def porcelain(picture: Array, _seed: int) -> Array:
    """青花, blue-and-white porcelain: cobalt on white glaze.

    Dark areas become a stronger wash, contours dark lines.
    """
    side = picture.shape[0]
    ink = 0.62 * (1 - _luminance(picture)) ** 1.2 + 0.85 * np.clip(_edges(picture, 0.005 * side) * 1.6, 0, 1)
    ink = np.clip(np.maximum(ink, _outline(picture[..., 3], 0.012 * side)), 0, 1)[..., None]
    glaze, cobalt = np.array([0.95, 0.97, 1.0]), np.array([0.07, 0.20, 0.58])
    return np.concatenate([glaze + (cobalt - glaze) * ink, picture[..., 3:]], axis=-1).astype(np.float32)


@style_filter("ink-wash")
def ink_wash(picture: Array, seed: int) -> Array:
    """水墨, ink wash: soft grey washes and broken brush lines; the paper shows through as transparency."""
    side = picture.shape[0]
    rng = np.random.default_rng(seed)
    grain = ndimage.zoom(rng.standard_normal((24, 24)), side / 24, order=3)[:side, :side]
    wash = ndimage.gaussian_filter((1 - _luminance(picture)) * picture[..., 3], 0.014 * side)
    line = np.maximum(_edges(picture, 0.007 * side) * 1.5, _outline(picture[..., 3], 0.016 * side))
    line = ndimage.gaussian_filter(np.clip(line, 0, 1), 0.003 * side) * np.clip(0.85 + 0.28 * grain, 0.25, 1)
    ink = np.clip(0.62 * wash * (1 + 0.16 * grain) + 0.9 * line, 0, 0.96)
    return _flat_colour((0.10, 0.10, 0.12), ink)


def _luminance(picture: Array) -> Array:
    """Rec. 709 luminance over white, [h w]."""
    alpha = picture[..., 3]
    colour = picture[..., :3] @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return np.asarray(colour * alpha + 1 - alpha, np.float32)


def _edges(picture: Array, sigma: float) -> Array:
    """Strength [h w] of the colour edges inside the picture; about 1 for a step from black to white."""
    over = picture[..., :3] * picture[..., 3:] + 0.5 * (1 - picture[..., 3:])
    gradients = [ndimage.gaussian_gradient_magnitude(over[..., c], sigma) for c in range(3)]
    return np.asarray(np.max(gradients, axis=0) * sigma * 2.5, np.float32)


def _outline(alpha: Array, width: float) -> Array:
    """A band [h w] just inside the silhouette."""
    return np.asarray(np.clip(alpha - _erode(alpha, width), 0, 1), np.float32)


def _erode(alpha: Array, width: float) -> Array:
    return np.asarray(ndimage.grey_erosion(alpha, size=2 * max(1, round(width)) + 1), np.float32)


def _smooth(x: Array, width: float) -> Array:
    """A smooth step from 0 to 1 around x = 0."""
    return np.asarray(np.clip(x / width + 0.5, 0, 1), np.float32)


def _flat_colour(colour: tuple[float, float, float], alpha: Array) -> Array:
    sheet = np.broadcast_to(np.asarray(colour, np.float32), (*alpha.shape, 3))
    return np.concatenate([sheet, alpha[..., None]], axis=-1).astype(np.float32)
