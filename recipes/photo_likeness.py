"""Fit what tells photos from drawings.

python recipes/photo_likeness.py PHOTOS OTHERS HELD_PHOTOS HELD_OTHERS

Four folders of pictures, with folders in them. Fits `WEIGHTS` of `danqing.photos.likeness` to the first two,
where each picture counts as itself and as a small JPEG of it, and prints them with the share of the last two
that they judge rightly.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from danqing.core.errors import BadPicture
from danqing.core.source_image import SUFFIXES, read_source
from danqing.photos.likeness import features

SIDE = 1000  # pixels: larger pictures are halved first
RIDGE = 0.03


def pictures(folder: str) -> Iterator[Image.Image]:
    """Every picture below a folder that can be read."""
    for path in sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES):
        try:
            image = read_source(path).image
        except BadPicture:
            continue
        yield image.reduce(2) if max(image.size) > SIDE else image


def small_jpeg(image: Image.Image) -> Image.Image:
    """The picture as it comes from a chat: at most 500 pixels wide, compressed."""
    white = Image.new("RGBA", image.size, "white")
    small = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    small.thumbnail((500, 500))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=72)
    return Image.open(file)


def rows_of(folder: str, *, compressed: bool) -> np.ndarray:
    """The features of all pictures below a folder, [n k], with a leading 1."""
    rows = []
    for image in pictures(folder):
        rows += [features(image), *([features(small_jpeg(image))] if compressed else [])]
    return np.array([[1.0, *row] for row in rows])


def fit(photos: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The weights of a logistic regression with a ridge, both kinds weighing the same, by Newton's method."""
    x, y = np.concatenate([photos, others]), np.repeat([1.0, 0.0], [len(photos), len(others)])
    share = np.repeat([0.5 / len(photos), 0.5 / len(others)], [len(photos), len(others)])
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-3
    mean[0], spread[0] = 0, 1
    z, w = (x - mean) / spread, np.zeros(x.shape[1])
    ridge = RIDGE * np.diag(np.arange(len(w)) > 0)
    for _ in range(40):
        p = 1 / (1 + np.exp(-np.clip(z @ w, -40, 40)))
        hessian = (z * (share * p * (1 - p))[:, None]).T @ z + ridge + 1e-9 * np.eye(len(w))
        step = np.linalg.solve(hessian, z.T @ (share * (p - y)) + ridge @ w)
        w -= step * min(1.0, 3 / float(np.linalg.norm(step)))
    weights = w / spread
    weights[0] -= weights[1:] @ mean[1:]
    return weights


def main(photos: str, others: str, held_photos: str, held_others: str) -> None:
    """Print the weights, and how well they do."""
    weights = fit(rows_of(photos, compressed=True), rows_of(others, compressed=True))
    print("WEIGHTS =", tuple(float(f"{weight:.3g}") for weight in weights))
    right = [
        rows_of(held_photos, compressed=False) @ weights > 0,
        rows_of(held_others, compressed=False) @ weights <= 0,
    ]
    for name, part in zip(("photos", "others"), right, strict=True):
        print(f"{name}: {part.sum()} of {len(part)} right, {part.mean():.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
