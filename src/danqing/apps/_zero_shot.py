"""Zero-shot classifiers for the other apps: CLIP, together with the judge for concepts that it knows."""

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
    """A classifier of pictures with any labels, such as a `ClipScorer`."""

    def classify(self, pixels: Tensor, labels: Sequence[str]) -> Tensor:
        """Pictures [n c h w] in [-1, 1] -> probabilities [n labels]; rows sum to 1."""
        ...


class ImageTextScorer(Protocol):
    """A scorer of how well texts match pictures: a `ClipScorer` or a `ScorerEnsemble`."""

    def score_function(self, texts: Sequence[str]) -> Callable[[Tensor], Tensor]:
        """A function of pictures [n c h w] in [-1, 1] giving scores [n texts]; higher is better."""
        ...


@dataclass(frozen=True)
class ScorerEnsemble:
    """CLIP and the judge together: a product of experts (Hinton 2002, eq. 1).

    For a label with a concept of the judge, the probabilities of both are multiplied. For other labels, only
    CLIP's counts.

    names: a name of a concept -> the judge's name for it.
    """

    scorer: ClipScorer
    judge: Judge
    names: Mapping[str, str]

    def classify(self, pixels: Tensor, labels: Sequence[str]) -> Tensor:
        """As `ClipScorer.classify`, [n labels]."""
        return (self.scorer.scale * self.score_function(labels)(pixels)).softmax(dim=-1)

    def score_function(self, texts: Sequence[str]) -> Callable[[Tensor], Tensor]:
        """As `ClipScorer.score_function`: cosines, plus a bonus from the judge's probability against chance.

        The bonus is divided by CLIP's scale, so that the softmax of the scores times this scale is the
        product of both probabilities.
        """
        concepts, cosines = self.judge.config.concepts, self.scorer.score_function(texts)
        things = [self._thing(text) for text in texts]
        columns = [concepts.index(thing) if thing in concepts else len(concepts) for thing in things]

        def score(pixels: Tensor) -> Tensor:
            likely = self.judge.predict(pad_to_square(pixels))[0].log_softmax(dim=-1) + log(len(concepts))
            bonus = F.pad(likely, (0, 1))  # the last column is for labels without a concept
            return cosines(pixels) + bonus[:, columns] / self.scorer.scale

        return score

    def _thing(self, label: str) -> str | None:
        """The concept in `label`; "a teddy bear" is not a bear, and 猫头鹰 is not 猫. None for no concept."""
        matches = [name for name in self.names if mentions(label, name)]
        return self.names[max(matches, key=len)] if matches else None


def open_zero_shot(place: str | Path | None = None) -> ClipScorer | ScorerEnsemble:
    """Open the shipped CLIP with the shipped judge, or the CLIP in the folder `place` without a judge.

    Raises:
        BadWeights: the weights are missing or cannot be used.
    """
    scorer = open_clip_scorer(place)
    if place is not None:
        return scorer
    words = vocabulary()
    names = {**{name: name for name in words}, **{chinese: name for name, chinese in words.items()}}
    return ScorerEnsemble(scorer, Judge.load(shipped_part("judge")), names)


def mentions(text: str, name: str) -> bool:
    """Whether `text` contains `name`; as whole words in a language with spaces."""
    if name.isascii():
        return re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE) is not None
    return name in text


def pixels_on_white(picture: Image.Image) -> Tensor:
    """A picture composited over white, as a tensor [1 3 h w] in [-1, 1]."""
    return from_pil(picture)[None, :3]
