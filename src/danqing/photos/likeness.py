"""Recognises photos by statistics of their pixels. Needs no torch.

A logistic regression on differences of neighbouring pixels, evenness of blocks and frequencies of colours.
`recipes/photo_likeness.py` fits `WEIGHTS` and measures its accuracy.
"""

from __future__ import annotations

from math import exp, log

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.int16]
SMALL = 192  # pixels: the longer side to which the whole picture is reduced
MIDDLE = 256  # pixels: the side of the crop from the middle at full size

WEIGHTS: tuple[float, ...] = (  # a constant, then one for each of `features`
    -2.38,
    -0.223,
    0.596,
    -2.54,
    0.598,
    3.03,
    2.71,
    0.0532,
    -6.57,
    -1.2,
    2.43,
    1.49,
    -1.19,
    0.826,
    -0.354,
    -0.303,
    -0.621,
    1.9,
    -0.541,
    1.91,
    0.344,
    0.274,
    0.0891,
    -0.216,
    2.05,
    0.734,
    0.289,
    0.0885,
    1.71,
    -0.964,
    -6.23,
    -0.603,
    -0.832,
    -0.342,
    -1.21,
    1.22,
    0.628,
    -0.111,
    0.569,
    0.38,
    -0.204,
    0.399,
    0.0754,
    0.0872,
    -0.183,
    -0.711,
    -0.649,
    -0.296,
    1.16,
    0.365,
    -1.16,
    1.7,
    -0.241,
    -1.2,
    -0.475,
    1.67,
    0.738,
    -1.93,
    0.642,
)


def is_photo(image: Image.Image) -> bool:
    """Whether a picture is likelier to be a photo than a drawing, a screenshot, a scan or line art."""
    return photo_likeness(image) > 0.5


def photo_likeness(image: Image.Image) -> float:
    """The probability, in [0, 1], that a picture is a photo."""
    score = float(np.dot(WEIGHTS, [1.0, *features(image)]))
    return 1 / (1 + exp(-min(max(score, -50.0), 50.0)))


def features(image: Image.Image) -> list[float]:
    """The regression's inputs, each about in [0, 1]: of the whole picture over white, and of its middle."""
    small = image.copy()
    small.thumbnail((SMALL, SMALL), Image.Resampling.BOX)
    left, top = (max(0, (side - MIDDLE) // 2) for side in image.size)
    middle = image.crop((left, top, min(image.width, left + MIDDLE), min(image.height, top + MIDDLE)))
    values: list[float] = []
    for part in (small, middle):
        pixels = _on_white(part)
        values += [*_changes(pixels), *_blocks(pixels), *_curves(pixels)]
    return [*values, *_shares(_on_white(small)), *_colours(_on_white(small))]


def _on_white(image: Image.Image) -> Pixels:
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.asarray(flat.convert("RGB"), np.int16)


def _changes(pixels: Pixels) -> list[float]:
    """The shares of neighbouring pixels that differ by 0, 1, 2, 3 to 5, ... 48 and more."""
    steps = [np.abs(np.diff(pixels, axis=axis)).max(axis=-1).ravel() for axis in (0, 1)]
    change = np.concatenate(steps)
    return [
        float(n) / change.size
        for n in np.bincount(np.digitize(change, (1, 2, 3, 6, 12, 24, 48)), minlength=8)
    ]


def _blocks(pixels: Pixels) -> list[float]:
    """The shares of 8 x 8 blocks that are flat, even, shaded and rough, and the mean roughness."""
    grey = pixels.mean(axis=-1)
    rows, columns = (max(side // 8, 1) for side in grey.shape)
    blocks = grey[: rows * 8, : columns * 8].reshape(
        rows, -1, columns, grey[:, : columns * 8].shape[1] // columns
    )
    rough = blocks.std(axis=(1, 3)).ravel()
    between = [(0, 0.3), (0.3, 2), (2, 6), (30, np.inf)]
    shares = [float(((rough >= low) & (rough < high)).mean()) for low, high in between]
    return [*shares, *(np.log1p(np.percentile(rough, (5, 25, 50, 75, 95))) / 4).tolist()]


def _curves(pixels: Pixels) -> list[float]:
    """How far pixels differ from the mean of their neighbours; in smooth areas that is film grain."""
    grey = np.pad(pixels.mean(axis=-1), 1, mode="edge")
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    curve = np.abs(4 * grey[1:-1, 1:-1] - around)
    quarters = np.log1p(np.percentile(curve, (25, 50, 75))) / 4
    return [float((curve < 0.1).mean()), *quarters.tolist(), float(np.log1p(curve.mean()) / 4 - quarters[1])]


def _shares(pixels: Pixels) -> list[float]:
    """The shares of the most frequent 1, 4 and 16 colours, the number of colours, and their entropy."""
    bins = pixels.reshape(-1, 3) >> 4
    counts = np.sort(np.bincount(bins @ np.array([256, 16, 1]), minlength=4096))[::-1] / len(bins)
    used = counts[counts > 0]
    entropy = -float((used * np.log2(used)).sum()) / 12
    return [*(float(counts[:n].sum()) for n in (1, 4, 16)), log(len(used)) / log(4096), entropy]


def _colours(pixels: Pixels) -> list[float]:
    """The shares of white, black and grey; saturation; variance of the border; brightness and contrast."""
    most, least = pixels.max(axis=-1), pixels.min(axis=-1)
    saturation = (most - least) / np.maximum(most, 1)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    shares = (least > 245), (most < 10), (most - least < 8), saturation, saturation > 0.7, saturation > 0.95
    contrast = float(pixels.mean(axis=-1).std() / 64)
    return [
        *(float(share.mean()) for share in shares),
        float(border.std() / 64),
        float(pixels.mean() / 255),
        contrast,
    ]
