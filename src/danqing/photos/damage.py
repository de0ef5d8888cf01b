"""Finds damage on a photo: scratches, folds and dust.

Damage is thin and much brighter or darker than what is on both of its sides: top-hats (Serra 1982) find such
pixels. Long ones may be scratches and folds: openings by line segments of many directions (Soille and Talbot
2001) keep them pixel by pixel. Short ones may be dust. Photos show such things themselves, so a logistic
regression decides for each connected part, by how even, grey and extreme its colour is, its shape and its
surroundings. `recipes/photo_damage.py` fits it to synthetic damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, log, pi, sin
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]
Mask = NDArray[np.bool_]

USUAL = 700  # pixels: the longer side of a picture for which the lengths below are meant
WIDEST = 8  # pixels: the widest scratch or fold
DIRECTIONS = 24
SHORT, LONG = 11, 35  # pixels: a segment that follows a line, and one that confirms it
FAINT, SURE = 18.0, 32.0  # of 255: contrast of a line's pixels, and contrast that confirms it
SPECK = 40.0  # of 255: least contrast of dust
LEAST = 4  # pixels: smaller parts are film grain

LINE_WEIGHTS = (-0.0542, -2.22, 4.85, -1.58, -1.75, -0.667, -1.89, -0.421, -3.2, 0.553, -22.3, 2.94, 4.98)
SPECK_WEIGHTS = (-4.25, 0.638, 2.84, -1.05, -0.223, 0.0951, -4.88, 0.243, -1.96, 5.96, 2.88, -0.624, 2.15)


@dataclass(frozen=True)
class Part:
    """A thin part of a photo that may be damage.

    rows, columns: its pixels.
    features: inputs of the regression.
    line: whether it is a line; otherwise it is a speck.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    features: tuple[float, ...]
    line: bool

    @property
    def is_damage(self) -> bool:
        """Whether it is likelier to be damage than a part of the scene."""
        weights = LINE_WEIGHTS if self.line else SPECK_WEIGHTS
        return float(np.dot(weights, (1.0, *np.clip(self.features, -3, 4)))) > 0


def damage_of(image: Image.Image) -> Image.Image:
    """The mask of scratches, folds and dust, a pixel wider than they are: "L", 255 inside."""
    there = np.zeros((image.height, image.width), np.uint8)
    for part in parts_of(image):
        if part.is_damage:
            there[part.rows, part.columns] = 255
    return Image.fromarray(cv2.dilate(there, np.ones((3, 3), np.uint8)))


def parts_of(image: Image.Image) -> Iterator[Part]:
    """All thin parts of a photo, bright and dark, lines and specks."""
    picture = np.asarray(image.convert("RGB")).astype(np.float32)
    unit = max(image.size) / USUAL
    for values in (picture.min(axis=-1), 255 - picture.max(axis=-1)):
        raised = _top_hat(values, WIDEST * unit)
        lines = _lines(raised, unit)
        for line, mask in ((True, lines), (False, _specks(raised, unit) & ~lines)):
            yield from _parts(mask, picture, values, raised, line=line)


def _top_hat(values: Array, width: float) -> Array:
    """The height above both sides, [h w], of everything at most `width` pixels wide."""
    side = _odd(width) + 2
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.morphologyEx(cv2.GaussianBlur(values, (0, 0), 0.5), cv2.MORPH_TOPHAT, disc))


def _lines(raised: Array, unit: float) -> Mask:
    """The mask of lines: pixels of some contrast that are connected to long ones of high contrast."""
    sure = _long(raised, LONG * unit) > SURE
    near = cv2.dilate(sure.astype(np.uint8), np.ones((_odd(9 * unit),) * 2, np.uint8)) > 0
    return np.asarray(near & (_long(raised, SHORT * unit) > FAINT))


def _long(raised: Array, length: float) -> Array:
    """The opening by segments of `length` pixels: the largest result over all directions."""
    best = np.zeros_like(raised)
    for k in range(DIRECTIONS):
        segment = _segment(length, k * pi / DIRECTIONS)
        best = np.maximum(best, cv2.morphologyEx(raised, cv2.MORPH_OPEN, segment))
    return best


def _segment(length: float, angle: float) -> NDArray[np.uint8]:
    side = _odd(length)
    kernel = np.zeros((side, side), np.uint8)
    x, y, middle = cos(angle) * (side // 2), sin(angle) * (side // 2), side // 2
    cv2.line(kernel, (round(middle - x), round(middle - y)), (round(middle + x), round(middle + y)), 1)
    return kernel


def _specks(raised: Array, unit: float) -> Mask:
    """The mask of specks: small parts of some contrast that contain pixels of high contrast."""
    weak = (raised > 0.4 * SPECK).astype(np.uint8)
    _, labels, parts, _ = cv2.connectedComponentsWithStats(weak, connectivity=8)
    small = parts[:, cv2.CC_STAT_AREA] < (1.5 * WIDEST * max(unit, 0.5)) ** 2
    small[0] = False
    sure = np.unique(labels[raised > SPECK])
    return np.asarray(np.isin(labels, sure[small[sure]]))


def _parts(mask: Mask, picture: Array, values: Array, raised: Array, *, line: bool) -> Iterator[Part]:
    """The connected parts of a mask, with their features."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for number, (left, top, width, height, area) in enumerate(boxes):
        if number == 0 or area < LEAST:
            continue
        wide = max(4, min(width, height) // 4)
        window = np.s_[max(0, top - wide) : top + height + wide, max(0, left - wide) : left + width + wide]
        there = np.asarray(labels[window] == number)
        features = _features(there, picture[window], values[window], raised[window], max(raised.shape))
        rows, columns = np.nonzero(there)
        yield Part(rows + window[0].start, columns + window[1].start, features, line)


def _features(there: Mask, picture: Array, values: Array, raised: Array, side: int) -> tuple[float, ...]:
    """The features of a part, each about in [0, 2]: contrast, colour, evenness, shape, and surroundings."""
    area = float(there.sum())
    core = there & (raised >= np.percentile(raised[there], 50))
    inside, colours = values[core], picture[core]
    beside = (cv2.dilate(there.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0) & ~(
        cv2.dilate(there.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    )
    around = values[beside] if beside.any() else inside
    rows, columns = np.nonzero(there)
    spread = np.linalg.eigvalsh(np.cov(np.stack([rows, columns]))) if area > 2 else np.zeros(2)
    length = 3.46 * max(float(spread[1]), 0.1) ** 0.5
    return (
        float(np.median(raised[core])) / 100,
        float(np.percentile(inside, 50)) / 255,
        float(inside.std()) / 30,
        float(np.ptp(colours, axis=1).mean()) / 50,
        float(around.std()) / 60,
        float(raised[beside].mean() if beside.any() else 0) / 30,
        float((np.median(inside) - np.percentile(around, 90)) / 100),
        log(area) / 5,
        length / side * 2,
        area / length**2,
        float(max(spread[0], 0.0) / max(spread[1], 0.1)) ** 0.5,
        float(raised[there].std()) / 30,
    )


def _odd(length: float) -> int:
    return 2 * max(1, round(length / 2)) + 1
