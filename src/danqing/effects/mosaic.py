"""Mosaic 马赛克: square stones in mortar, along the contours.

Simulating decorative mosaics (Hausner 2001): a centroidal Voronoi diagram of oriented squares.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import KDTree, Voronoi

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Scene, Whole

PALETTE = ("#3d3832",)  # mortar
STONE = 15  # thousandths of the side: side of a stone


def mosaic(scene: Scene) -> Array:
    """Stones in mortar."""
    (mortar,) = scene.colours
    size = scene.px(STONE)
    height, width = scene.picture.shape[:2]
    generator = np.random.default_rng([scene.whole.seed, 1])
    smooth = f.kuwahara(scene.picture, scene.px(4))
    stones = np.tile(mortar * 255, (height, width, 1)).astype(np.float32)
    for cell in scene.whole.once(_cells):
        change = generator.normal(0, 1, 4)
        corners = cell * scene.fine(1) - (scene.left, scene.top)
        if (corners.max(axis=0) > 0).all() and (corners.min(axis=0) < (width, height)).all():
            _lay(stones, smooth, corners, size, change)
    relief = f.blur(f.lightness(stones / 255), 0.6)
    light = cv2.Sobel(relief, cv2.CV_32F, 1, 0) + cv2.Sobel(relief, cv2.CV_32F, 0, 1)
    rough = f.grain(scene, 9)
    return f.unit(stones / 255 * (1 + 0.03 * rough + 0.10 * np.tanh(light))[..., None])


def _lay(stones: Array, smooth: Array, corners: Array, size: float, change: Array) -> None:
    """Draw one stone [k 2] with mortar around it, in the picture's colour at its place, slightly varied."""
    height, width = smooth.shape[:2]
    middle = corners.mean(axis=0)
    x, y = (int(np.clip(value, 0, most - 1)) for value, most in zip(middle, (width, height), strict=True))
    r = max(1, round(size / 4))
    colour = smooth[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1].reshape(-1, 3).mean(axis=0)
    colour = np.clip(colour * (1.06 + 0.07 * change[0]) + 0.015 * change[1:4], 0, 1) * 255
    away = corners - middle
    shrunk = middle + away * (
        1 - 0.09 * size / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 0.3 * size)
    )
    cv2.fillConvexPoly(stones, np.round(shrunk * 16).astype(np.int32), colour.tolist(), cv2.LINE_AA, shift=4)


def _cells(whole: Whole) -> list[Array]:
    """The corners of the stones, as (x, y) in thousandths of the side."""
    scale = min(1.0, 5 / whole.px(STONE))  # a few pixels per stone are enough to place them
    picture = cv2.resize(whole.picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tone = f.lightness(f.kuwahara(picture, 2.0))
    flow = f.flow_of(tone, 4.0)
    edge = f.lines(tone, flow, 1.0, 0.01, 0.02)
    places = _lloyd(edge, flow, whole.px(STONE) * scale, whole.seed)[:, ::-1]
    right, bottom = 2 * np.array(tone.shape[::-1])
    mirrors = (
        ((1, 1), (0, 0)),
        ((-1, 1), (0, 0)),
        ((1, -1), (0, 0)),
        ((-1, 1), (right, 0)),
        ((1, -1), (0, bottom)),
    )
    diagram = Voronoi(
        np.concatenate([places * sign + shift for sign, shift in mirrors])
    )  # points outside, so that all Voronoi cells are bounded
    regions = (diagram.regions[k] for k in diagram.point_region[: len(places)])
    return [diagram.vertices[region] / (whole.fine(1) * scale) for region in regions]


def _lloyd(edge: Array, flow: f.Flow, step: float, seed: int) -> Array:
    """Points (y, x) about `step` apart, along the flow, off the edges: Lloyd's method with square cells."""
    shape = edge.shape
    y, x = np.mgrid[step / 2 : shape[0] : step, step / 2 : shape[1] : step]
    places = np.stack([y.ravel(), x.ravel()], axis=1)
    places += np.random.default_rng(seed).normal(0, 0.15 * step, places.shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack([rows.ravel(), columns.ravel()], axis=1).astype(np.float32)
    weight = 1 - 0.92 * edge.ravel()
    for _ in range(8):
        nearest = KDTree(places).query(pixels, k=4)[1]
        inside = np.clip(places.astype(int), 0, np.array(shape) - 1)
        tx, ty = flow.x[inside[:, 0], inside[:, 1]], flow.y[inside[:, 0], inside[:, 1]]
        away = pixels[:, None] - places[nearest]
        ahead = away[..., 1] * tx[nearest] + away[..., 0] * ty[nearest]
        across = away[..., 1] * -ty[nearest] + away[..., 0] * tx[nearest]
        owner = np.take_along_axis(nearest, np.maximum(abs(ahead), abs(across)).argmin(axis=1)[:, None], 1)[
            :, 0
        ]
        mass = np.bincount(owner, weight, len(places))
        moved = [np.bincount(owner, weight * pixels[:, axis], len(places)) for axis in (0, 1)]
        places = np.where(
            mass[:, None] > 0, np.stack(moved, axis=1) / np.maximum(mass, 1e-6)[:, None], places
        )
    return places
