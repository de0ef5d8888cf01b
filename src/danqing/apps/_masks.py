"""Finds regions of a picture, as masks: the subject of a text, scratches, holes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter
from torch import Tensor

from danqing.apps._zero_shot import ZeroShotClassifier, mentions, pixels_on_white
from danqing.conditioning.prompt import is_chinese
from danqing.core.errors import BadBrief, shorten
from danqing.core.images import HAZE, to_pil
from danqing.data.vocabulary import things

Mask = NDArray[np.bool_]

VIEW = 448  # a picture of larger area is resized to the area of this side
LOOK = 128  # side of a window in pixels for the classifier
WINDOWS = ((1.0, 1), (0.7, 4), (0.5, 6), (0.4, 7), (0.3, 8))  # fraction of the side, positions along it
LEAST = 0.02  # windows with a smaller fraction of drawing are skipped
CUT = 30.0  # weight of a window: exp(-CUT * fraction of its border that crosses the drawing)
GROUND = 0.15  # of pixels in [-1, 1]: a smaller difference from the border's colour is background
KEPT = 0.5  # threshold relative to the maximum; Otsu's would cut off parts of a single subject
SURE = 2.0  # the least ratio of the probability of the text to that of a random guess
BOLD = 24  # of 255: the least difference of a scratch from its surroundings

_ARTICLE = re.compile(r"^(the|an?)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class _Window:
    """A window: pixels top:bottom, left:right, and its weight."""

    top: int
    bottom: int
    left: int
    right: int
    weight: float


def region_of(
    picture: Image.Image, words: str, classifier: ZeroShotClassifier, others: Sequence[str] | None = None
) -> Image.Image:
    """The region of a picture that shows `words`: a mask of mode "L" and its size, 255 = inside.

    Windows of several sizes are classified. Each pixel gets the weighted mean probability of `words` over its
    windows; windows whose border crosses the drawing have less weight. A uniform background is never inside.

    others: the other labels; None is the vocabulary.

    Raises:
        BadBrief: in no window is `words` clearly more likely than by a random guess.
    """
    small = _shrunk(pixels_on_white(picture))
    drawn = _drawn_region(small)
    windows = list(_windows(drawn))
    rivals = things("zh" if is_chinese(words) else "en") if others is None else others
    words = _ARTICLE.sub("", words.strip())
    labels = [words, *(name for name in rivals if not (mentions(words, name) or mentions(name, words)))]
    answers = _answers(small, windows, classifier, labels)
    if _surest(windows, answers) < SURE / len(labels):
        raise BadBrief(f"nothing in the picture looks like {shorten(words)!r}: say it otherwise, or mask it")
    likely = _map(drawn.shape, windows, answers) * drawn
    return _mask(likely > KEPT * likely.max()).resize(picture.size, Image.Resampling.NEAREST)


def scratches(picture: Image.Image, widest: int = 3) -> Image.Image:
    """Thin lines and specks that a median filter removes: a mask of mode "L", 255 = inside.

    Thin lines of the drawing itself are found too.

    widest: the largest width of a scratch in pixels.
    """
    (image,) = to_pil(pixels_on_white(picture))
    smooth = image.filter(ImageFilter.MedianFilter(2 * widest + 1))
    difference = np.asarray(ImageChops.difference(image, smooth)).max(axis=-1)
    grain = 1.4826 * float(np.median(difference))  # robust standard deviation of noise
    return _grow(difference > max(BOLD, 4 * grain))


def holes(picture: Image.Image) -> Image.Image:
    """Transparent areas enclosed by the drawing, grown by one pixel: a mask of mode "L", 255 = inside."""
    free = np.asarray(picture.convert("RGBA"))[..., 3] < HAZE * 255
    return _grow(free & ~_outside(free))


DAMAGE: dict[str, Callable[[Image.Image], Image.Image]] = {"scratches": scratches, "holes": holes}
"""Kind of damage -> the function that finds it."""


def _shrunk(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[-2:]
    scale = VIEW / sqrt(height * width)
    size = [max(1, round(side * scale)) for side in (height, width)]
    return F.interpolate(pixels, size, mode="area") if scale < 1 else pixels


def _drawn_region(pixels: Tensor) -> Mask:
    """The drawn part of a picture [1 3 h w]; all of it if the border is not mostly of one colour."""
    top, side = pixels[0, :, [0, -1]].flatten(1), pixels[0, :, :, [0, -1]].flatten(1)
    ground = torch.cat([top, side], dim=1).median(dim=1).values
    alike = ((pixels[0] - ground.view(3, 1, 1)).abs().amax(dim=0) < GROUND).numpy()
    frame = np.concatenate([alike[[0, -1]].ravel(), alike[:, [0, -1]].ravel()])
    return ~_outside(alike) if frame.mean() > 0.5 else np.ones_like(alike)


def _outside(free: Mask) -> Mask:
    """The free cells that are 4-connected to the border by free cells."""
    reached = free.copy()
    reached[1:-1, 1:-1] = False
    count = -1
    while count != (count := int(reached.sum())):
        for turn in range(4):
            reached = np.rot90(_sweep(np.rot90(free, turn), np.rot90(reached, turn)), -turn)
    return reached


def _sweep(free: Mask, reached: Mask) -> Mask:
    """The free cells that are reached, or are right of a reached one without a wall between."""
    at = np.arange(free.shape[1])
    last = np.maximum.accumulate(np.where(reached, at, -1), axis=1)
    wall = np.maximum.accumulate(np.where(free, -1, at), axis=1)
    return np.asarray(free & (last > wall))


def _windows(drawn: Mask) -> Iterator[_Window]:
    """Square windows at even distances, without the empty ones."""
    height, width = drawn.shape
    for share, places in WINDOWS:
        side = max(1, round(share * min(height, width)))
        for top in _starts(height - side, places * height // min(height, width)):
            for left in _starts(width - side, places * width // min(height, width)):
                inside = drawn[top : top + side, left : left + side]
                if inside.mean() >= LEAST:
                    frame = np.concatenate([inside[[0, -1]].ravel(), inside[:, [0, -1]].ravel()])
                    weight = exp(-CUT * float(frame.mean()))
                    yield _Window(top, top + side, left, left + side, weight)


def _starts(last: int, places: int) -> list[int]:
    return [round(start) for start in np.linspace(0, last, max(1, places))]


@torch.no_grad()
def _answers(
    pixels: Tensor, windows: Sequence[_Window], classifier: ZeroShotClassifier, labels: Sequence[str]
) -> list[float]:
    """The probability of the first label for each window."""
    views = [pixels[..., w.top : w.bottom, w.left : w.right] for w in windows]
    crops = [F.interpolate(view, (LOOK, LOOK), mode="area") for view in views]
    return classifier.classify(torch.cat(crops), labels)[:, 0].tolist() if crops else []


def _surest(windows: Sequence[_Window], answers: Sequence[float]) -> float:
    """The highest probability, each multiplied by its window's weight relative to the largest weight."""
    most = max((window.weight for window in windows), default=1.0)
    counted = (answer * window.weight / most for window, answer in zip(windows, answers, strict=True))
    return max(counted, default=0.0)


def _map(shape: tuple[int, ...], windows: Sequence[_Window], answers: Sequence[float]) -> NDArray[np.float64]:
    """For each pixel the weighted mean of the probabilities of all windows that contain it."""
    total, weights = np.zeros(shape), np.full(shape, 1e-30)
    for window, answer in zip(windows, answers, strict=True):
        place = np.s_[window.top : window.bottom, window.left : window.right]
        total[place] += window.weight * answer
        weights[place] += window.weight
    return np.asarray(total / weights)


def _mask(there: Mask) -> Image.Image:
    return Image.fromarray(there.astype(np.uint8) * 255, "L")


def _grow(there: Mask) -> Image.Image:
    return _mask(there).filter(ImageFilter.MaxFilter(3))
