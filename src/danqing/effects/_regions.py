"""Regions and colours of the whole picture: its subject, its background and its main colours."""

from __future__ import annotations

import cv2
import numpy as np
from skimage.graph import MCP_Geometric

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Scene, Whole

_SIDE = 160  # pixels: side of the reduced picture, which is enough to find a background


def subject(whole: Whole) -> Array:
    """How likely each place belongs to the subject, which contours separate from the border: [h w] in [0, 1].

    Geodesic saliency (Wei et al. 2012): the background touches the border and has no contours inside.
    """
    height, width = whole.alpha.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    lab = f.to_lab(f.kuwahara(cv2.resize(whole.picture, size, interpolation=cv2.INTER_AREA), 2.0))
    slopes = [cv2.Scharr(lab, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1))]
    cost = np.sqrt(sum((slope**2).sum(axis=-1) for slope in slopes))
    cost = np.maximum(cost - np.median(cost), 0) + 0.05
    border = np.zeros(cost.shape, bool)
    border[[0, -1], :] = border[:, [0, -1]] = True
    distance, _ = MCP_Geometric(cost).find_costs([tuple(place) for place in np.argwhere(border)])
    distance = f.blur(distance.astype(np.float32), 2.0)
    low, high = np.percentile(distance, [25, 85])
    likely = np.clip((distance - low) / max(high - low, 1e-3), 0, 1)
    return np.asarray(cv2.resize(f.step(likely, 0.35, 0.7), (width, height), interpolation=cv2.INTER_CUBIC))


def backdrop(whole: Whole) -> Array:
    """Where to leave the paper empty (留白), [h w] in [0, 1]: plain, not dark, and not the subject."""
    tone = f.lightness(whole.picture)
    slope = np.hypot(cv2.Scharr(tone, cv2.CV_32F, 1, 0), cv2.Scharr(tone, cv2.CV_32F, 0, 1)) / 32
    busy = f.blur(np.minimum(slope, 0.1), whole.fine(14)) * whole.fine(
        1
    )  # smaller pictures have steeper gradients
    plain = 1 - f.step(busy, 0.011, 0.012)
    low, _, high = whole.once(f.levels)
    light = f.step(f.blur((tone - low) / (high - low), whole.fine(8)), 0.3, 0.3)
    return f.blur((1 - subject(whole)) * plain * light, whole.fine(12))


def empty(scene: Scene, guide: Array) -> Array:
    """`backdrop` of the whole picture for a scene, [h w], with its edge at contours of `guide` [h w 3]."""
    rough = scene.at(scene.whole.once(backdrop))
    fitted = cv2.ximgproc.guidedFilter(guide, rough, round(scene.fine(25)), 2e-3)  # He, Sun and Tang 2010
    return np.asarray(np.clip(fitted, 0, 1), np.float32)


def own_colours(whole: Whole, count: int) -> Array:
    """The `count` main colours of a picture, by k-means in Lab: [count 3] in [0, 1]."""
    small = cv2.resize(f.kuwahara(whole.picture, whole.fine(6)), (96, 96), interpolation=cv2.INTER_AREA)
    points = f.to_lab(small).reshape(-1, 3)
    centres = points[:1]
    for _ in range(count - 1):  # starts with colours that are as different as possible
        away = np.linalg.norm(points[:, None] - centres, axis=-1).min(axis=1)
        centres = np.concatenate([centres, points[away.argmax()][None]])
    for _ in range(12):
        owner = np.linalg.norm(points[:, None] - centres, axis=-1).argmin(axis=1)
        size = np.bincount(owner, minlength=count)[:, None]
        sums = np.stack([np.bincount(owner, channel, count) for channel in points.T], axis=1)
        centres = np.where(size > 0, sums / np.maximum(size, 1), centres).astype(np.float32)
    return np.asarray(f.from_lab(centres[None])[0])
