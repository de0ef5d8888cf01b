"""Where something is in a picture, as masks: what words name, scratches, holes."""

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

VIEW = 448  # a larger picture is shrunk until its area is the square of this
LOOK = 128  # side at which a window is shown
WINDOWS = ((1.0, 1), (0.7, 4), (0.5, 6), (0.4, 7), (0.3, 8))  # share of the shorter side, places along it
LEAST = 0.02  # windows with a smaller share of drawing are empty
CUT = 30.0  # a window counts exp(-CUT * share of its frame that cuts through the drawing)
GROUND = 0.15  # in [-1, 1]: what differs less from the frame's colour is ground
KEPT = 0.5  # of the map's peak; Otsu's threshold would halve a thing that is alone
SURE = 2.0  # how much likelier than by a guess the words must be somewhere
BOLD = 24  # of 255: a scratch differs at least so much from its surroundings

_ARTICLE = re.compile(r"^(the|an?)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class _Window:
    """Pixels top:bottom, left:right, and how much what they show counts."""

    top: int
    bottom: int
    left: int
    right: int
    weight: float


def region_of(
    picture: Image.Image, words: str, classifier: ZeroShotClassifier, others: Sequence[str] | None = None
) -> Image.Image:
    """Where `words` are in a picture: an "L" mask of its size, 255 = there.

    Windows of several sizes are looked at one by one, and each tells all it shows how likely `words` are
    there, among `others` (None: the things of the vocabulary). Windows that cut through the drawing count
    less. A uniform background is never part of the mask.

    Raises:
        BadBrief: no window that counts answers better to the words than a guess would.
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
    """Thin lines and specks, brighter or darker than what is around: an "L" mask, 255 = there.

    They are what a median filter removes. widest: up to so many pixels across. So thin a line that belongs to
    the drawing is found too.
    """
    (image,) = to_pil(pixels_on_white(picture))
    smooth = image.filter(ImageFilter.MedianFilter(2 * widest + 1))
    difference = np.asarray(ImageChops.difference(image, smooth)).max(axis=-1)
    grain = 1.4826 * float(np.median(difference))  # of the picture: the deviation of noise by its median
    return _grow(difference > max(BOLD, 4 * grain))


def holes(picture: Image.Image) -> Image.Image:
    """Transparent places that the drawing encloses: an "L" mask, 255 = there, a pixel over their rim."""
    free = np.asarray(picture.convert("RGBA"))[..., 3] < HAZE * 255
    return _grow(free & ~_outside(free))


DAMAGE: dict[str, Callable[[Image.Image], Image.Image]] = {"scratches": scratches, "holes": holes}
"""Kinds of damage, and what finds each."""


def _shrunk(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[-2:]
    scale = VIEW / sqrt(height * width)
    size = [max(1, round(side * scale)) for side in (height, width)]
    return F.interpolate(pixels, size, mode="area") if scale < 1 else pixels


def _drawn_region(pixels: Tensor) -> Mask:
    """Where a picture [1 3 h w] is drawn on; everywhere if its frame is not mostly of one colour."""
    top, side = pixels[0, :, [0, -1]].flatten(1), pixels[0, :, :, [0, -1]].flatten(1)
    ground = torch.cat([top, side], dim=1).median(dim=1).values
    alike = ((pixels[0] - ground.view(3, 1, 1)).abs().amax(dim=0) < GROUND).numpy()
    frame = np.concatenate([alike[[0, -1]].ravel(), alike[:, [0, -1]].ravel()])
    return ~_outside(alike) if frame.mean() > 0.5 else np.ones_like(alike)


def _outside(free: Mask) -> Mask:
    """The free cells from which steps to the sides, over free cells, reach the frame."""
    reached = free.copy()
    reached[1:-1, 1:-1] = False
    count = -1
    while count != (count := int(reached.sum())):
        for turn in range(4):
            reached = np.rot90(_sweep(np.rot90(free, turn), np.rot90(reached, turn)), -turn)
    return reached


def _sweep(free: Mask, reached: Mask) -> Mask:
    """The free cells that are reached, or right of a reached one with no wall between."""
    at = np.arange(free.shape[1])
    last = np.maximum.accumulate(np.where(reached, at, -1), axis=1)
    wall = np.maximum.accumulate(np.where(free, -1, at), axis=1)
    return np.asarray(free & (last > wall))


def _windows(drawn: Mask) -> Iterator[_Window]:
    """Square windows at even distances, all those that show something."""
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
    """How likely the first label is the right one for what each window shows."""
    views = [pixels[..., w.top : w.bottom, w.left : w.right] for w in windows]
    crops = [F.interpolate(view, (LOOK, LOOK), mode="area") for view in views]
    return classifier.classify(torch.cat(crops), labels)[:, 0].tolist() if crops else []


def _surest(windows: Sequence[_Window], answers: Sequence[float]) -> float:
    """The best answer, each taken for as much as its window counts beside the one that counts most."""
    most = max((window.weight for window in windows), default=1.0)
    counted = (answer * window.weight / most for window, answer in zip(windows, answers, strict=True))
    return max(counted, default=0.0)


def _map(shape: tuple[int, ...], windows: Sequence[_Window], answers: Sequence[float]) -> NDArray[np.float64]:
    """The weighted mean of the answers of all windows over each pixel."""
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
