"""What an effect renders: a picture, or one tile of a large one, with what it must know of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[Any]  # of float32, which the type stubs of NumPy lose in arithmetic
Value = TypeVar("Value")
WHOLE_SIDE = 1024  # pixels: the longer side of `Whole` at most


@dataclass(frozen=True)
class Whole:
    """The whole picture, small, for what no tile can know: its tones, its palette, its regions.

    picture: colour over white [h w 3] in [0, 1]. alpha: [h w] in [0, 1].
    strength: in [0, 1]; 0 keeps fine detail, 1 leaves large forms. notes: what effects worked out of it.
    """

    picture: Array
    alpha: Array
    strength: float
    seed: int
    notes: dict[Callable[..., Any], Any] = field(default_factory=dict, compare=False)

    def px(self, thousandths: float) -> float:
        """A length in pixels of this small picture; see `Scene.px`."""
        return self.fine(thousandths) * 2 ** (2 * self.strength - 1)

    def fine(self, thousandths: float) -> float:
        """The same whatever the strength."""
        return thousandths / 1000 * sqrt(self.alpha.size)

    def once(self, function: Callable[[Whole], Value]) -> Value:
        """`function` of the whole picture, worked out for the first tile only."""
        if function not in self.notes:
            self.notes[function] = function(self)
        value: Value = self.notes[function]
        return value


@dataclass(frozen=True)
class Scene:
    """A picture, or a tile of it.

    picture: colour over white [h w 3] in [0, 1]. top, left: where the tile begins, in pixels.
    size: (height, width) of the full picture. colours: the palette [k 3] in [0, 1].
    """

    picture: Array
    whole: Whole
    top: int
    left: int
    size: tuple[int, int]
    colours: Array

    def px(self, thousandths: float) -> float:
        """A length in pixels: thousandths of the side of a square with the picture's area, by strength."""
        return thousandths / 1000 * sqrt(self.size[0] * self.size[1]) * 2 ** (2 * self.whole.strength - 1)

    def fine(self, thousandths: float) -> float:
        """The same whatever the strength, for paper and brushes."""
        return thousandths / 1000 * sqrt(self.size[0] * self.size[1])

    def noise(self, size: float, key: int, across: float | None = None) -> Array:
        """Smooth noise of mean 0 and deviation about 1 [h w], the same at the same place in every tile.

        size: of its grains, in thousandths of the side. across: their width, where it is another.
        """
        cells = max(self.fine(size), 1.0), max(self.fine(across or size), 1.0)
        grid = tuple(ceil(length / cell) + 4 for length, cell in zip(self.size, cells, strict=True))
        values = np.random.default_rng([self.whole.seed, key]).standard_normal(grid, dtype=np.float32)
        height, width = self.picture.shape[:2]
        down = _spline(height, self.top / cells[0] + 1, 1 / cells[0], grid[0])
        right = _spline(width, self.left / cells[1] + 1, 1 / cells[1], grid[1])
        return np.asarray((right @ (down @ values).T).T * 2.1, np.float32)

    def at(self, values: Array) -> Array:
        """What this tile shows of a smooth map of the whole picture, [h w]."""
        height, width = self.picture.shape[:2]
        steps = values.shape[0] / self.size[0], values.shape[1] / self.size[1]
        rows = _spline(height, (self.top + 0.5) * steps[0] - 0.5, steps[0], values.shape[0])
        columns = _spline(width, (self.left + 0.5) * steps[1] - 0.5, steps[1], values.shape[1])
        return np.asarray((columns @ (rows @ values).T).T, np.float32)

    def from_top(self) -> Array:
        """How far down each row lies [h 1] in [0, 1]."""
        rows = np.arange(self.picture.shape[0], dtype=np.float32)[:, None]
        return (rows + self.top) / np.float32(self.size[0])

    def from_border(self) -> Array:
        """The distance to the border of the full picture, in thousandths of the side [h w]."""
        y, x = np.mgrid[: self.picture.shape[0], : self.picture.shape[1]].astype(np.float32)
        y, x = y + self.top, x + self.left
        nearest = np.minimum(np.minimum(y, self.size[0] - 1 - y), np.minimum(x, self.size[1] - 1 - x))
        return np.asarray(nearest / self.fine(1), np.float32)


def whole_of(picture: Array, alpha: Array, strength: float, seed: int) -> Whole:
    """The whole of a picture [h w 3] with its alpha [h w]."""
    height, width = alpha.shape
    scale = min(1.0, WHOLE_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    small_alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    return Whole(np.asarray(small, np.float32), np.asarray(small_alpha, np.float32), strength, seed)


def _spline(count: int, start: float, step: float, length: int) -> sparse.csr_array:
    """What interpolates `length` values at start, start + step, ... by cubic B-splines: [count length]."""
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
