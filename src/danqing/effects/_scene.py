"""The input of an effect: a picture, or one tile of a large one, with facts about the whole picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[Any]  # float32; NumPy's type stubs lose that in arithmetic
Value = TypeVar("Value")
WHOLE_SIDE = 1024  # pixels: the longest side of `Whole`


@dataclass(frozen=True)
class Whole:
    """The whole picture, reduced, for what a tile does not show: tones, palette, regions.

    picture: colour over white [h w 3] in [0, 1].
    alpha: [h w] in [0, 1].
    strength: in [0, 1]; 0 keeps fine detail, 1 leaves large shapes.
    seed: seed of all noise.
    notes: results of `once`.
    """

    picture: Array
    alpha: Array
    strength: float
    seed: int
    notes: dict[Callable[..., Any], Any] = field(default_factory=dict, compare=False)

    def px(self, thousandths: float) -> float:
        """A length in pixels of this reduced picture; see `Scene.px`."""
        return self.fine(thousandths) * 2 ** (2 * self.strength - 1)

    def fine(self, thousandths: float) -> float:
        """As `px`, but independent of the strength."""
        return thousandths / 1000 * sqrt(self.alpha.size)

    def once(self, function: Callable[[Whole], Value]) -> Value:
        """The result of `function` for the whole picture, computed once for all tiles."""
        if function not in self.notes:
            self.notes[function] = function(self)
        value: Value = self.notes[function]
        return value


@dataclass(frozen=True)
class Scene:
    """A picture, or a tile of it.

    picture: colour over white [h w 3] in [0, 1].
    top, left: where the tile begins, in pixels.
    size: (height, width) of the full picture.
    colours: the palette [k 3] in [0, 1].
    """

    picture: Array
    whole: Whole
    top: int
    left: int
    size: tuple[int, int]
    colours: Array

    def px(self, thousandths: float) -> float:
        """A length in pixels, which grows with strength.

        thousandths: of the side of a square with the picture's area.
        """
        return thousandths / 1000 * sqrt(self.size[0] * self.size[1]) * 2 ** (2 * self.whole.strength - 1)

    def fine(self, thousandths: float) -> float:
        """As `px`, but independent of the strength, for paper and brushes."""
        return thousandths / 1000 * sqrt(self.size[0] * self.size[1])

    def noise(self, size: float, key: int, across: float | None = None) -> Array:
        """Smooth noise [h w] of mean 0 and deviation about 1, continuous across tiles.

        size: of its grains, in thousandths of the side.
        across: width of its grains, if it differs.
        """
        cells = max(self.fine(size), 1.0), max(self.fine(across or size), 1.0)
        grid = tuple(ceil(length / cell) + 4 for length, cell in zip(self.size, cells, strict=True))
        values = np.random.default_rng([self.whole.seed, key]).standard_normal(grid, dtype=np.float32)
        height, width = self.picture.shape[:2]
        down = _spline(height, self.top / cells[0] + 1, 1 / cells[0], grid[0])
        right = _spline(width, self.left / cells[1] + 1, 1 / cells[1], grid[1])
        return np.asarray((right @ (down @ values).T).T * 2.1, np.float32)

    def at(self, values: Array) -> Array:
        """A smooth map of the whole picture, enlarged and cut to this tile, [h w]."""
        height, width = self.picture.shape[:2]
        steps = values.shape[0] / self.size[0], values.shape[1] / self.size[1]
        rows = _spline(height, (self.top + 0.5) * steps[0] - 0.5, steps[0], values.shape[0])
        columns = _spline(width, (self.left + 0.5) * steps[1] - 0.5, steps[1], values.shape[1])
        return np.asarray((columns @ (rows @ values).T).T, np.float32)

    def from_top(self) -> Array:
        """The relative height of each row, [h 1]: 0 at the top of the full picture, 1 at its bottom."""
        rows = np.arange(self.picture.shape[0], dtype=np.float32)[:, None]
        return (rows + self.top) / np.float32(self.size[0])

    def from_border(self) -> Array:
        """The distance to the border of the full picture, in thousandths of the side [h w]."""
        y, x = np.mgrid[: self.picture.shape[0], : self.picture.shape[1]].astype(np.float32)
        y, x = y + self.top, x + self.left
        nearest = np.minimum(np.minimum(y, self.size[0] - 1 - y), np.minimum(x, self.size[1] - 1 - x))
        return np.asarray(nearest / self.fine(1), np.float32)


def whole_of(picture: Array, alpha: Array, strength: float, seed: int) -> Whole:
    """The reduced copy of a picture [h w 3] with its alpha [h w]."""
    height, width = alpha.shape
    scale = min(1.0, WHOLE_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    small_alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    return Whole(np.asarray(small, np.float32), np.asarray(small_alpha, np.float32), strength, seed)


def _spline(count: int, start: float, step: float, length: int) -> sparse.csr_array:
    """A matrix [count length] that interpolates values at start, start + step, ... by cubic B-splines."""
    places = start + step * np.arange(count)
    first = np.floor(places).astype(int)
    t = places - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    columns = np.clip(first[:, None] + np.arange(-1, 3), 0, length - 1)
    rows = np.repeat(np.arange(count), 4)
    entries = (weights / 6).astype(np.float32).ravel()
    return sparse.csr_array((entries, (rows, columns.ravel())), shape=(count, length))
