"""Who looks at pictures for the other apps: CLIP, helped by the judge with the things it knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Protocol

import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from danqing.core.images import from_pil, pad_to_square
from danqing.data.vocabulary import vocabulary
from danqing.families import open_clip_scorer
from danqing.families.clip import ClipScorer
from danqing.nets.judge import Judge
from danqing.weights.shipped import shipped_part


class ZeroShotClassifier(Protocol):
    """Anything that tells which words a picture answers to, as a `ClipScorer` does by itself."""

    def classify(self, pixels: Tensor, labels: Sequence[str]) -> Tensor:
        """How likely each label is the right one for pictures [n c h w] in [-1, 1]: [n labels], sums 1."""
        ...


class ImageTextScorer(Protocol):
    """Anything that scores how well words fit pictures, a `ClipScorer` or an `ScorerEnsemble`."""

    def score_function(self, texts: Sequence[str]) -> Callable[[Tensor], Tensor]:
        """What scores pictures [n c h w] in [-1, 1] for every text: [n texts], more is better."""
        ...


@dataclass(frozen=True)
class ScorerEnsemble:
    """CLIP and the judge together: a product of experts (Hinton 2002, eq. 1).

    A label that names a thing the judge knows has both their probabilities, multiplied; of other labels the
    judge has no opinion. names: what a thing may be called -> what the judge calls it.
    """

    scorer: ClipScorer
    judge: Judge
    names: Mapping[str, str]

    def classify(self, pixels: Tensor, labels: Sequence[str]) -> Tensor:
        """Like `ClipScorer.classify`, [n labels]."""
        return (self.scorer.scale * self.score_function(labels)(pixels)).softmax(dim=-1)

    def score_function(self, texts: Sequence[str]) -> Callable[[Tensor], Tensor]:
        """Like `ClipScorer.score_function`: cosines, and the judge's odds of what is named, against chance.

        That is counted in cosines too, so that the softmax of all, times CLIP's scale, is the product.
        """
        concepts, cosines = self.judge.config.concepts, self.scorer.score_function(texts)
        things = [self._thing(text) for text in texts]
        columns = [concepts.index(thing) if thing in concepts else len(concepts) for thing in things]

        def score(pixels: Tensor) -> Tensor:
            likely = self.judge.predict(pad_to_square(pixels))[0].log_softmax(dim=-1) + log(len(concepts))
            bonus = F.pad(likely, (0, 1))  # last: no opinion
            return cosines(pixels) + bonus[:, columns] / self.scorer.scale

        return score

    def _thing(self, label: str) -> str | None:
        """The thing that `label` names: "a teddy bear" names no bear, and 猫头鹰 no 猫."""
        matches = [name for name in self.names if mentions(label, name)]
        return self.names[max(matches, key=len)] if matches else None


def open_zero_shot(place: str | Path | None = None) -> ClipScorer | ScorerEnsemble:
    """The shipped CLIP with the shipped judge; or CLIP's weights in the folder `place`, by themselves.

    Raises:
        BadWeights: the weights are not there or cannot be used.
    """
    scorer = open_clip_scorer(place)
    if place is not None:
        return scorer
    words = vocabulary()
    names = {**{name: name for name in words}, **{chinese: name for name, chinese in words.items()}}
    return ScorerEnsemble(scorer, Judge.load(shipped_part("judge")), names)


def mentions(text: str, name: str) -> bool:
    """Whether `text` holds `name`: as whole words where they are written with spaces."""
    if name.isascii():
        return re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE) is not None
    return name in text


def pixels_on_white(picture: Image.Image) -> Tensor:
    """A picture on white, [1 3 h w] in [-1, 1]."""
    return from_pil(picture)[None, :3]
