"""Fit what tells damage from a photo's own lines and specks.

python recipes/photo_damage.py PHOTOS HELD

Two folders of photos. White and dark scratches, dust and folds are drawn on each; the weights of
`danqing.photos.damage` are fitted on the first folder and printed, with how well they mark the second.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from danqing.core.source_image import SUFFIXES, read_source
from danqing.photos.damage import parts_of

RIDGE = 0.0005


def drawn_on(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A photo [h w 3] with damage, and where that is [h w]."""
    height, width = photo.shape[:2]
    side, wide = max(height, width), max(1.0, max(height, width) / 700)
    layers = []
    for _ in range(rng.integers(3, 8)):  # scratches
        angle = rng.normal(np.pi / 2, 0.5) if rng.random() < 0.7 else rng.uniform(0, np.pi)
        way = np.linspace(-0.5, 0.5, 60) * rng.uniform(0.15, 0.8) * side
        bend = np.cumsum(np.cumsum(rng.normal(0, 0.02, 60))) * side / 400
        x = rng.uniform(0, width) + np.cos(angle) * way - np.sin(angle) * bend
        y = rng.uniform(0, height) + np.sin(angle) * way + np.cos(angle) * bend
        layers.append((line(photo, x, y, int(rng.integers(1, 4) * wide)), rng.uniform(0.75, 1)))
    for _ in range(rng.integers(15, 45)):  # dust
        layer = np.zeros((height, width), np.uint8)
        centre = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        radius = max(1, round(rng.uniform(1, 3.5) * wide))
        cv2.ellipse(
            layer, centre, (radius, max(1, radius - 1)), rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA
        )
        layers.append((layer, rng.uniform(0.8, 1)))
    for _ in range(rng.integers(0, 3)):  # folds
        along, across = (width, height) if (flat := rng.random() < 0.5) else (height, width)
        way = np.linspace(0, along, 40)
        place = rng.uniform(0.2, 0.8) * across + rng.normal(0, 0.6, 40)
        x, y = (way, place) if flat else (place, way)
        layers.append((line(photo, x, y, int(rng.integers(2, 6) * wide)), rng.uniform(0.85, 1)))
    after, there = photo.astype(np.float32), np.zeros((height, width), np.float32)
    for layer, opacity in layers:
        cover = layer[..., None].astype(np.float32) / 255 * np.float32(opacity)
        tone = rng.uniform(222, 255) if rng.random() < 0.75 else rng.uniform(0, 32)
        after, there = after * (1 - cover) + tone * cover, np.maximum(there, cover[..., 0])
    return after.round().astype(np.uint8), cv2.dilate((there > 0.12).astype(np.uint8), np.ones((3, 3))) > 0


def line(photo: np.ndarray, x: np.ndarray, y: np.ndarray, width: int) -> np.ndarray:
    """A line through points, [h w] of 255."""
    layer = np.zeros(photo.shape[:2], np.uint8)
    points = np.round(np.stack([x, y], axis=1) * 16).astype(np.int32)
    cv2.polylines(layer, [points], isClosed=False, color=255, thickness=width, lineType=cv2.LINE_AA, shift=4)
    return layer


def examples(folder: str) -> Iterator[tuple[list[tuple[bool, np.ndarray, float, int]], int]]:
    """Of each photo: its parts as (line, features, share of damage, pixels), and the pixels of damage."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    for number, path in enumerate(paths):
        photo = np.asarray(read_source(path).image.convert("RGB"))
        damaged, there = drawn_on(photo, np.random.default_rng(number))
        parts = parts_of(Image.fromarray(damaged))
        yield (
            [
                (p.line, np.clip(p.features, -3, 4), float(there[p.rows, p.columns].mean()), len(p.rows))
                for p in parts
            ],
            int(there.sum()),
        )


def fit(features: np.ndarray, share: np.ndarray, area: np.ndarray) -> np.ndarray:
    """The weights of a logistic regression with a ridge, parts weighing by their area, by Newton's method."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-3
    z = np.concatenate([np.ones((len(features), 1)), (features - mean) / spread], axis=1)
    y, weight, w = share > 0.5, area / area.sum(), np.zeros(z.shape[1])
    ridge = RIDGE * np.diag(np.arange(len(w)) > 0)
    for _ in range(40):
        p = 1 / (1 + np.exp(-np.clip(z @ w, -30, 30)))
        hessian = (z * (weight * p * (1 - p))[:, None]).T @ z + ridge + 1e-9 * np.eye(len(w))
        step = np.linalg.solve(hessian, z.T @ (weight * (p - y)) + ridge @ w)
        w -= step * min(1.0, 3 / float(np.linalg.norm(step)))
    slopes = w[1:] / spread
    return np.array([w[0] - slopes @ mean, *slopes])


def main(photos: str, held: str) -> None:
    """Print the weights of lines and of specks, and precision and recall in pixels on the held photos."""
    rows = [row for parts, _ in examples(photos) for row in parts]
    weights = {}
    for is_line, name in ((True, "LINE_WEIGHTS"), (False, "SPECK_WEIGHTS")):
        chosen = [row for row in rows if row[0] == is_line]
        columns = (np.array([row[k] for row in chosen]) for k in (1, 2, 3))
        weights[is_line] = fit(*columns)
        print(name, "=", tuple(float(f"{weight:.3g}") for weight in weights[is_line]))
    marked = right = total = 0.0
    for parts, damage in examples(held):
        total += damage
        for is_line, features, share, area in parts:
            if weights[is_line] @ [1.0, *features] > 0:
                marked, right = marked + area, right + share * area
    union = marked + total - right
    print(f"precision {right / marked:.2f}, recall {right / total:.2f}, IoU {right / union:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
