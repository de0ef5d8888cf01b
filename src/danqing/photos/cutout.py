"""Finds the subject of a photo, as a mask with soft edges, and cuts it out with clean colours at the edges.

Geodesic saliency (Wei et al. 2012) gives a first guess of what stands out from the border, GrabCut (Rother et
al. 2004) segments, a guided filter (He et al. 2013) finds the edge at full size, and blurred colours of both
sides (Forte 2021) remove the background's colour from half-covered pixels.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

Array = NDArray[Any]
Box = tuple[float, float, float, float]
Point = tuple[float, float]

SIDE = 420  # pixels: the longer side of the reduced picture that is segmented
NARROW = 64  # pixels: its least shorter side
REGIONS = 18  # pixels: the side of a superpixel
PLAIN = 10.0  # in Lab: colours that differ less from the border hardly stand out
FEW = 40  # pixels: a smaller region is too small to learn colours from
ROUNDS = 6  # iterations of GrabCut
LEAST, MOST = 0.003, 0.97  # shares of the picture: a smaller or larger region is no subject
PART = 0.12  # share of the largest part: smaller parts are dropped


def subject_of(
    image: Image.Image, box: Box | None = None, point: Point | None = None, region: Image.Image | None = None
) -> Image.Image | None:
    """The mask of the subject, "L" of the picture's size, 255 inside; None if nothing stands out.

    box: the subject lies within (left, top, right, bottom), in pixels.
    point: the subject is at (x, y), in pixels.
    region: a rough mask of the subject, "L" of the picture's size.

    Without any of these, the subject is what stands out from the border.
    """
    picture = np.asarray(image.convert("RGB"))
    scale = max(min(1.0, SIDE / max(image.size)), NARROW / min(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    likely = _likely(small, scale, box, point, region)
    there = _grab_cut(small, likely, keep_inside=box is not None)
    if point is not None:
        there = _part_at(there, round(point[0] * scale), round(point[1] * scale))
    if not LEAST < there.mean() < MOST:
        return None
    return Image.fromarray(_refine(picture, there))


def cut_out(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """The picture with `alpha` ("L"), RGBA; along soft edges the background's colour is removed."""
    picture = np.asarray(image.convert("RGB"), np.float32)
    cover = np.asarray(alpha, np.float32)[..., None] / 255
    side = max(3, round(0.012 * max(image.size)))
    inside = _mean(picture * cover, side) / np.maximum(_mean(cover, side), 1e-3)
    outside = _mean(picture * (1 - cover), side) / np.maximum(_mean(1 - cover, side), 1e-3)
    alone = inside + cover * (picture - cover * inside - (1 - cover) * outside)
    colour = np.where(cover > 0.995, picture, alone).clip(0, 255).round().astype(np.uint8)
    transparency = np.asarray(alpha)
    if image.mode == "RGBA":
        transparency = np.minimum(transparency, np.asarray(image)[..., 3])
    return Image.fromarray(np.dstack([colour, transparency]))


def add_outline(sticker: Image.Image, width: int) -> Image.Image:
    """The cut-out with a white outline of `width` pixels, as stickers have; each side grows by twice that."""
    wide = Image.new("RGBA", (sticker.width + 2 * width, sticker.height + 2 * width))
    wide.paste(sticker, (width, width))
    alpha = np.asarray(wide)[..., 3]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    rim = cv2.GaussianBlur(cv2.dilate(alpha, disc), (0, 0), 0.8)
    paper = Image.new("RGBA", wide.size, "white")
    paper.putalpha(Image.fromarray(np.maximum(rim, alpha)))
    return Image.alpha_composite(paper, wide)


def _likely(
    small: Array, scale: float, box: Box | None, point: Point | None, region: Image.Image | None
) -> Array:
    """How likely each pixel of a small picture belongs to the subject, [h w] in [0, 1].

    0 means: not at all.
    """
    height, width = small.shape[:2]
    if region is not None:
        near = cv2.resize(np.asarray(region), (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(near.astype(np.float32) / 255, (0, 0), 0.02 * max(width, height)))
    if box is None and point is None:
        return _saliency(small, _frame(small.shape[:2]))
    if box is not None:
        left, top, right, bottom = (round(value * scale) for value in box)
        inside = np.zeros((height, width), bool)
        inside[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)] = True
        return np.where(inside, np.maximum(_saliency(small, ~inside), 0.4), 0)
    assert point is not None
    seed = np.zeros((height, width), bool)
    x, y, reach = round(point[0] * scale), round(point[1] * scale), max(2, max(width, height) // 50)
    seed[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    to_frame, to_seed = _distances(small, _frame(small.shape[:2])), _distances(small, seed)
    return np.where(seed, 1.0, to_frame / np.maximum(to_frame + to_seed, 1e-6) * 0.97)


def _frame(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask of the border's pixels, without the lower border, where subjects stand or are cut off."""
    edge = np.zeros(shape, bool)
    edge[:2] = edge[:, :2] = edge[:, -2:] = True
    edge[-2:, : shape[1] // 8] = edge[-2:, -shape[1] // 8 :] = True
    return edge


def _saliency(small: Array, ground: NDArray[np.bool_]) -> Array:
    """The geodesic distance of each pixel from the background `ground`, scaled to [0, 1], [h w]."""
    far = _distances(small, ground)
    height, width = far.shape
    y, x = np.mgrid[:height, :width]
    centre = np.exp(-(((x / width - 0.5) / 0.42) ** 2) - ((y / height - 0.52) / 0.42) ** 2)
    far = far * (0.35 + 0.65 * centre)
    return np.asarray(np.clip(far / max(float(np.percentile(far, 97)), PLAIN), 0, 1))


def _distances(small: Array, start: NDArray[np.bool_]) -> Array:
    """The geodesic distance of each pixel's superpixel from those in `start`, in units of Lab, [h w]."""
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    slic = cv2.ximgproc.createSuperpixelSLIC(cv2.GaussianBlur(lab, (0, 0), 1), cv2.ximgproc.SLICO, REGIONS)
    slic.iterate(5)
    labels, count = slic.getLabels(), slic.getNumberOfSuperpixels()
    sizes = np.maximum(np.bincount(labels.ravel(), minlength=count), 1)
    colours = np.stack(
        [np.bincount(labels.ravel(), lab[..., k].ravel(), count) / sizes for k in range(3)], axis=1
    )
    pairs = np.concatenate(
        [
            np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], axis=1),
            np.stack([labels[:-1].ravel(), labels[1:].ravel()], axis=1),
        ]
    )
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    steps = np.linalg.norm(colours[pairs[:, 0]] - colours[pairs[:, 1]], axis=1)
    steps = np.maximum(steps - 3.0, 0) + 0.05  # small steps are shading and cost almost nothing
    graph = coo_array((steps, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    first = np.unique(labels[start])
    distance = dijkstra(graph, directed=False, indices=first, min_only=True)
    distance[~np.isfinite(distance)] = 0
    return np.asarray(distance[labels], np.float32)


def _grab_cut(small: Array, likely: Array, *, keep_inside: bool) -> NDArray[np.bool_]:
    """Segment a small picture by GrabCut, starting from `likely`; the mask of the subject."""
    usual = float(np.clip(_otsu(likely), 0.15, 0.6))
    mask = np.where(likely > usual, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[likely > max(0.92, usual)] = cv2.GC_FGD
    mask[likely < (1e-6 if keep_inside else 0.06)] = cv2.GC_BGD
    inside = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    if min(inside.sum(), (~inside).sum()) < FEW:
        return np.asarray(inside)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(
        cv2.cvtColor(small, cv2.COLOR_RGB2BGR), mask, (0, 0, 1, 1), *models, ROUNDS, cv2.GC_INIT_WITH_MASK
    )
    return _large_parts((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))


def _otsu(values: Array) -> float:
    threshold, _ = cv2.threshold((values * 255).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(threshold) / 255


def _large_parts(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without small parts, and with small holes closed."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    clean = cv2.morphologyEx(there.astype(np.uint8), cv2.MORPH_OPEN, disc)
    for value in (1, 0):
        count, labels, parts, _ = cv2.connectedComponentsWithStats(
            (clean == value).astype(np.uint8), connectivity=4
        )
        areas = parts[1:, cv2.CC_STAT_AREA]
        if count > 1:
            least = PART * areas.max() if value else 0.002 * clean.size
            small = np.flatnonzero(areas < least) + 1
            clean[np.isin(labels, small)] = 1 - value
    return clean.astype(bool)


def _part_at(there: NDArray[np.bool_], x: int, y: int) -> NDArray[np.bool_]:
    """The connected part of the mask at (x, y), or nearest to it."""
    if not there.any():
        return there
    _, labels = cv2.connectedComponents(there.astype(np.uint8))
    rows, columns = np.nonzero(there)
    nearest = int(np.argmin((rows - y) ** 2 + (columns - x) ** 2))
    return np.asarray(labels == labels[rows[nearest], columns[nearest]])


def _refine(picture: Array, there: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Alpha [h w] at full size: the small mask with its edge moved to edges of the picture nearby."""
    height, width = picture.shape[:2]
    wide = cv2.resize(there.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    unit = max(height, width) / SIDE
    soft = cv2.GaussianBlur(wide, (0, 0), max(0.6 * unit, 0.6))
    guide = picture.astype(np.float32) / 255
    alpha = cv2.ximgproc.guidedFilter(guide, soft, max(2, round(2.5 * unit)), 2e-4)
    alpha = np.clip((alpha - 0.5) * 1.8 + 0.5, 0, 1)
    distance = max(2, round(3 * unit))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * distance + 1, 2 * distance + 1))
    solid = (soft > 0.5).astype(np.uint8)
    alpha[cv2.erode(solid, disc) > 0] = 1
    alpha[cv2.dilate(solid, disc) == 0] = 0
    return np.asarray((alpha * 255).round(), np.uint8)


def _mean(values: Array, side: int) -> Array:
    blurred = cv2.blur(values, (2 * side + 1, 2 * side + 1), borderType=cv2.BORDER_REFLECT)
    return blurred if blurred.ndim == 3 else blurred[..., None]
