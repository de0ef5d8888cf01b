"""Computes control maps for ControlNets from any picture: edges, soft edges, line art, scribble.

All are white on black, as the published ControlNets were trained. Those for soft edges and line art were
trained with maps from networks; these are classical substitutes that look the same.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import cv2
import numpy as np
from PIL import Image

from danqing.effects._filters import blur, flow_of, lightness, lines, to_lab, unit
from danqing.effects._scene import Array

LOW, HIGH = 100, 200  # Canny's thresholds, for gradients of pixels in 0 to 255
_USUAL = 512  # pixels: the side for which line widths are given


def control_map(image: Image.Image, kind: str) -> Image.Image:
    """The control map of a picture (RGB), in its size, mode "L".

    kind: canny, softedge, lineart or scribble.
    """
    drawn = _MAPS[kind](np.asarray(image.convert("RGB")))
    return Image.fromarray(drawn)


def _canny(pixels: np.ndarray) -> np.ndarray:
    """Canny's edges (1986), one pixel wide."""
    return np.asarray(cv2.Canny(pixels, LOW, HIGH))


def _soft_edges(pixels: np.ndarray) -> np.ndarray:
    """The gradient of colours in Lab, at three scales."""
    lab = to_lab(_unit(pixels)) / np.array([100, 160, 160], np.float32)
    total = np.zeros(pixels.shape[:2], np.float32)
    for sigma in (1.0, 2.0, 4.0):
        smooth = blur(lab, sigma * _scale(pixels))
        across, down = (cv2.Scharr(smooth, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1)))
        total += sigma * np.sqrt((across**2 + down**2).max(axis=-1))
    most = max(float(np.percentile(total, 99)), 1.0)  # avoids a division by 0 for a picture without edges
    return _bytes(total / most)


def _line_art(pixels: np.ndarray) -> np.ndarray:
    """Dark lines, and the dark sides of contours."""
    return _bytes(_lines(pixels, 0.9))


def _scribble(pixels: np.ndarray) -> np.ndarray:
    """A few broad lines."""
    broad = (_lines(pixels, 1.8) > 0.5).astype(np.uint8) * 255
    width = max(3, round(4 * _scale(pixels)))
    return np.asarray(cv2.dilate(broad, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))))


def _lines(pixels: np.ndarray, width: float) -> Array:
    values = lightness(_unit(pixels))
    scale = _scale(pixels)
    return lines(values, flow_of(values, 2.5 * scale), width * scale)


def _scale(pixels: np.ndarray) -> float:
    return sqrt(pixels.shape[0] * pixels.shape[1]) / _USUAL


def _unit(pixels: np.ndarray) -> Array:
    return np.asarray(pixels, np.float32) / 255


def _bytes(values: Array) -> np.ndarray:
    return np.asarray(unit(values) * 255 + 0.5, np.uint8)


_MAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "canny": _canny,
    "softedge": _soft_edges,
    "lineart": _line_art,
    "scribble": _scribble,
}
