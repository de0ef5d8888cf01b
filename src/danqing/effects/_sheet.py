"""The sheet of a paper-cut: which parts of a picture are paper, so that the paper is one piece."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from skimage.morphology import remove_small_objects

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Whole

Mask = NDArray[np.bool_]
FRAME = 26  # thousandths of the side: width of the frame


def sheet_of(whole: Whole) -> Mask:
    """The mask of the paper [h w]: one connected piece, if the picture has no transparency."""
    flow = f.flow_of(f.lightness(whole.picture), whole.px(5))
    field = _darkness(whole, flow)
    sheet = f.blur(field, whole.px(1.6)) > 0
    sheet = _without_specks(sheet, whole.px(8))
    held = whole.alpha > 0.5
    edge = _frame(whole) if held.all() else held & ~_erode(held, whole.fine(5))
    sheet = (sheet & held) | edge
    sheet &= ~_crescents(whole, sheet & ~edge, flow)
    return bridge(_without_specks(sheet, whole.px(8)), max(2, round(whole.px(4)))) & held


def _darkness(whole: Whole, flow: f.Flow) -> Array:
    """The contrast to the surroundings [h w]: above 0 where darker or on a line, below 0 where lighter."""
    fine = f.kuwahara(whole.picture, whole.px(3.5), flow)
    low, middle, high = f.levels(whole)
    tone, broad = (
        np.clip((f.lightness(forms) - low) / (high - low), 0, 1)
        for forms in (fine, f.kuwahara(fine, whole.px(6), flow))
    )
    thin = f.lines(tone, flow, whole.px(2.0), 0.012, 0.02)
    thick = f.lines(broad, flow, whole.px(3.2), 0.01, 0.02)
    cut = f.lines(1 - tone, flow, whole.px(2.2), 0.014, 0.02)
    usual = 0.4 * np.clip((middle - low) / (high - low), 0.3, 0.7) + 0.6 * f.blur(tone, whole.px(75))
    dark = (usual - 0.01 - broad) / 0.25 + 1.3 * np.maximum(thin, thick) - 1.5 * cut
    face = f.step(f.blur(f.skin(fine), whole.px(9)), 0.35, 0.4)  # eyes, nose and mouth must show in a face
    features = (f.blur(tone, whole.px(16)) - 0.05 - tone) / 0.15 + 0.8 * thin
    return np.asarray(np.where(face > 0.5, np.maximum(features, dark), dark), np.float32)


def _frame(whole: Whole) -> Mask:
    """The mask of a border with a row of diamonds cut out of it [h w]."""
    height, width = whole.alpha.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    to_side, to_end = np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)
    thick, pitch = whole.fine(FRAME), whole.fine(30)
    border = np.minimum(to_side, to_end) < thick
    lengthwise = np.where(to_end < to_side, x - width / 2, y - height / 2)
    along = abs((lengthwise / pitch) % 1 - 0.5) * pitch
    across = abs(np.minimum(to_side, to_end) - thick / 2)
    corner = np.maximum(to_side, to_end) < 1.4 * thick
    diamonds = (along / 0.32 / pitch + across / (0.27 * thick) < 1) & ~corner
    return np.asarray(border & ~diamonds, bool)


def _crescents(whole: Whole, sheet: Mask, flow: f.Flow) -> Mask:
    """Crescents (月牙纹) along the flow in the middle of large solid parts: their mask [h w]."""
    inside = ndimage.distance_transform_edt(sheet)
    size, pitch = whole.px(13), whole.px(46)
    marks = np.zeros(sheet.shape, np.uint8)
    generator = np.random.default_rng([whole.seed, 3])
    for row, y in enumerate(np.arange(pitch / 2, sheet.shape[0], pitch * 0.87)):
        for x in np.arange(pitch / 2 + (row % 2) * pitch / 2, sheet.shape[1], pitch):
            jitter = generator.uniform(-0.12, 0.12, 2) * pitch
            place = np.clip((y + jitter[0], x + jitter[1]), 0, np.array(sheet.shape) - 1).astype(int)
            if inside[tuple(place)] > 1.9 * size:
                _crescent(marks, place, np.arctan2(flow.y[tuple(place)], flow.x[tuple(place)]), size)
    return marks > 127


def _crescent(marks: NDArray[np.uint8], place: NDArray[np.int_], angle: float, size: float) -> None:
    turn = np.linspace(0.12 * np.pi, 0.88 * np.pi, 16)
    outer = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    inner = np.stack([np.cos(turn), 0.45 * np.sin(turn) + 0.18], axis=1)[::-1]
    shape = (np.concatenate([outer, inner]) - (0, 0.6)) * size
    turned = shape @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = np.round((turned + place[::-1]) * 16).astype(np.int32)
    cv2.fillPoly(marks, [points], 255, cv2.LINE_AA, shift=4)


def _erode(mask: Mask, radius: float) -> Mask:
    padded = np.pad(mask, 1)
    return np.asarray(ndimage.distance_transform_edt(padded)[1:-1, 1:-1] > radius, bool)


def _without_specks(sheet: Mask, size: float) -> Mask:
    """The mask without loose bits of paper and without holes below `size` pixels across."""
    area = max(2, round(size * size))
    paper = remove_small_objects(sheet, max_size=area)
    return np.asarray(~remove_small_objects(~paper, max_size=area // 2), bool)


def bridge(sheet: Mask, width: int) -> Mask:
    """The mask with its pieces joined by the shortest bridges: a minimum spanning tree of the pieces."""
    pieces, count = ndimage.label(sheet)
    if count < 2:
        return sheet
    gap, nearest = ndimage.distance_transform_edt(~sheet, return_indices=True)
    owner = pieces[tuple(nearest)]
    drawn = sheet.astype(np.uint8)
    for start, end in _bridges(gap, nearest, owner, count):
        cv2.line(drawn, start[::-1].tolist(), end[::-1].tolist(), 1, width)
    return drawn > 0


def _bridges(
    gap: NDArray[np.float64], nearest: NDArray[np.int_], owner: NDArray[np.int_], count: int
) -> list[tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """The two ends (y, x) of each bridge, where the cells of two pieces come closest."""
    ways = []
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1, :], np.s_[1:, :])):
        apart = owner[here] != owner[there]
        ends = [nearest[:, *side] for side in (here, there)]
        ways.append(
            np.concatenate(
                [
                    np.stack([(gap[here] + gap[there])[apart], owner[here][apart], owner[there][apart]]),
                    *(end[:, apart] for end in ends),
                ]
            )
        )
    way = np.concatenate(ways, axis=1)
    way = way[:, way[0].argsort(kind="stable")]
    pairs = np.sort(way[1:3].astype(int), axis=0)
    _, first = np.unique(pairs[0] * (count + 1) + pairs[1], return_index=True)
    graph = sparse.csr_array((way[0, first] + 1e-3, tuple(pairs[:, first])), shape=(count + 1, count + 1))
    tree = sparse.csgraph.minimum_spanning_tree(graph).tocoo()
    chosen = set(zip(tree.row.tolist(), tree.col.tolist(), strict=True))
    kept = [k for k in first if tuple(pairs[:, k].tolist()) in chosen]
    return [(way[3:5, k].astype(int), way[5:7, k].astype(int)) for k in kept]
