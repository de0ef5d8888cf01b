"""What becomes of words beyond the captions: `python benchmarks/words.py synonyms colours counts positions`.

Every share stands beside what the same measure gives without the words in question. Pictures are painted at
native size on transparency, prompt k with seed k; the judge, a classifier that no painter was trained with,
says what they show.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import danqing.zoo
from danqing.apps.paint import paint
from danqing.core.images import from_pil
from danqing.core.painter import Painter
from danqing.data.captions import article, counted_caption
from danqing.data.lexicon import lexicon, split_lexicon
from danqing.data.vocabulary import vocabulary
from danqing.families import open_painter
from danqing.nets.judge import Judge

Figures = dict[str, float]

STYLES = ("3d", "flat", "cartoon")
COLOURED = ("car", "balloon", "house", "butterfly", "fish", "umbrella", "t-shirt", "rose", "bus", "gift")
HUES = {  # degrees on the colour wheel, from and to
    "red": (345, 15),
    "orange": (15, 42),
    "yellow": (42, 70),
    "green": (70, 165),
    "blue": (180, 260),
    "purple": (260, 320),
}
COUNTED = ("dog", "mushroom", "star", "fish", "key", "strawberry", "balloon", "candle", "bee", "tulip")
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
PLACED = (("cat", "house"), ("dog", "tree"), ("star", "moon"), ("car", "rocket"), ("fish", "crab"))
SPECK = 0.01  # of the picture: less is no thing of its own


@dataclass(frozen=True)
class Bench:
    """A painter and its judge."""

    painter: Painter
    judge: Judge
    fast: bool = False

    def pictures(self, prompts: Iterable[str]) -> list[Image.Image]:
        """RGBA at native size, the k-th with seed k."""
        asked = {"native": True, "background": "transparent", "painter": self.painter, "fast": self.fast}
        return [paint(prompt, seed=k, **asked)[0].image for k, prompt in enumerate(prompts)]  # type: ignore[arg-type]

    def things(self, images: list[Image.Image]) -> list[str]:
        """What the judge takes each for."""
        labels = self.judge.label(torch.stack([from_pil(image) for image in images]))[:, 0]
        return [self.judge.config.concepts[k] for k in labels.tolist()]


def main() -> None:
    """Run what is named and print a line for each figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=sorted(MEASURES))
    parser.add_argument("--model", default="stickers", help="a shipped model or a folder of weights")
    parser.add_argument("--fast", action="store_true", help="few steps, as with 'danqing paint --fast'")
    asked = parser.parse_args()
    judge = Judge.load(Path(danqing.zoo.__path__[0]) / "judge")
    bench = Bench(open_painter(asked.model), judge, asked.fast)
    for what in asked.what:
        for name, value in MEASURES[what](bench).items():
            print(f"{what:<10} {name:<44} {value:8.3f}", flush=True)


def synonyms(bench: Bench) -> Figures:
    """The things of other words beside those of plain words, each in three styles."""
    pairs = [line.split(" = ") for line in _lines(Path(__file__).with_name("synonyms.txt"))]
    chinese = vocabulary()
    asked = list(product(pairs, STYLES))
    painted = bench.things(bench.pictures(_said(word, style) for (word, _), style in asked))
    plain = [name if word.isascii() else chinese[name] for word, name in pairs]
    usual = bench.things(bench.pictures(_said(name, style) for name, style in product(plain, STYLES)))
    right = [thing == name for thing, ((_, name), _) in zip(painted, asked, strict=True)]
    learned, left_out = (
        {word for both in part.values() for side in both for word in side}
        for part in split_lexicon(lexicon())
    )
    groups = {
        "that the encoder learned": [word in learned for (word, _), _ in asked],
        "of the lexicon, left out": [word in left_out for (word, _), _ in asked],
        "in no list": [word not in learned | left_out for (word, _), _ in asked],
    }
    return {
        "plain words": _mean(thing == name for thing, ((_, name), _) in zip(usual, asked, strict=True)),
        "synonyms": _mean(right),
        **{
            f"{sum(told) // len(STYLES)} synonyms {name}": _mean(
                hit for hit, known in zip(right, told, strict=True) if known
            )
            for name, told in groups.items()
        },
    }


def colours(bench: Bench) -> Figures:
    """Whether most of what has a colour has the one that was asked for."""
    asked = list(product(COLOURED, HUES))
    painted = bench.pictures(_said(f"{colour} {thing}", "flat") for thing, colour in asked)
    plain = bench.pictures(_said(thing, "flat") for thing, _ in asked)
    things = bench.things(painted)
    return {
        "the colour asked for": _mean(
            _hue(image) == colour for image, (_, colour) in zip(painted, asked, strict=True)
        ),
        "by chance, without the word": _mean(
            _hue(image) == colour for image, (_, colour) in zip(plain, asked, strict=True)
        ),
        "the thing is kept": _mean(found == thing for found, (thing, _) in zip(things, asked, strict=True)),
    }


def counts(bench: Bench) -> Figures:
    """How often there are as many separate shapes as the number says."""
    figures = {}
    for word, number in NUMBERS.items():
        several = [counted_caption(thing, "", number, animal=False) for thing in COUNTED if number > 1]
        named = [told[0] for told in several if told] or [f"one {thing}" for thing in COUNTED]
        painted = bench.pictures(f"{name}, flat style" for name in named)
        figures[f"{word}: so many shapes"] = _mean(_shapes(image) == number for image in painted)
    return figures


def positions(bench: Bench) -> Figures:
    """Whether the judge finds the first thing in the left half and the second in the right one."""
    pairs = [*PLACED, *((right, left) for left, right in PLACED)]
    painted = bench.pictures(
        f"{_said(left)} left of {_said(right)}, {style} style"
        for (left, right), style in product(pairs, STYLES)
    )
    halves = [(_half(image, 0), _half(image, 1)) for image in painted]
    found = [tuple(bench.things(list(both))) for both in halves]
    wanted = [pair for pair, _ in product(pairs, STYLES)]
    return {
        "both in their places": _mean(one == two for one, two in zip(found, wanted, strict=True)),
        "either in its place": _mean(
            one[0] == two[0] or one[1] == two[1] for one, two in zip(found, wanted, strict=True)
        ),
    }


def _said(words: str, style: str = "") -> str:
    thing = f"{article(words)} {words}" if words.isascii() else words
    return f"{thing}, {style} style" if style else thing


def _hue(image: Image.Image) -> str | None:
    """The colour of most of what is opaque and has any."""
    hsv, alpha = np.asarray(image.convert("RGB").convert("HSV")), np.asarray(image.getchannel("A"))
    lively = (alpha > 128) & (hsv[..., 1] > 70) & (hsv[..., 2] > 60)
    degrees = hsv[lively, 0] * (360 / 256)
    share = {name: float(_within(degrees, *ends).sum()) for name, ends in HUES.items()}
    best = max(share, key=lambda name: share[name])
    return best if share[best] > 0 else None


def _within(degrees: NDArray[np.float64], start: float, end: float) -> NDArray[np.bool_]:
    return (degrees >= start) & (degrees < end) if start < end else (degrees >= start) | (degrees < end)


def _shapes(image: Image.Image) -> int:
    """Separate opaque shapes that are no specks."""
    alpha = np.asarray(image.getchannel("A")) > 128
    numbered, count = ndimage.label(alpha)
    areas = ndimage.sum_labels(alpha, numbered, range(1, count + 1))
    return int(sum(area > SPECK * alpha.size for area in areas))


def _half(image: Image.Image, which: int) -> Image.Image:
    """A half, in the middle of a square again."""
    width = image.width // 2
    square = Image.new("RGBA", image.size, (255, 255, 255, 0))
    square.paste(image.crop((which * width, 0, (which + 1) * width, image.height)), (width // 2, 0))
    return square


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]


def _mean(values: Iterable[bool]) -> float:
    told = list(values)
    return sum(told) / max(1, len(told))


MEASURES: dict[str, Callable[[Bench], Figures]] = {
    "synonyms": synonyms,
    "colours": colours,
    "counts": counts,
    "positions": positions,
}

if __name__ == "__main__":
    main()
