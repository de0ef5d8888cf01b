"""CLIP scores for filtering pictures: the match of caption and picture, and linear classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from danqing.core.errors import BadWeights
from danqing.core.images import from_pil
from danqing.families.clip import ClipScorer
from danqing.weights.tensor_files import read_tensors


@dataclass(frozen=True)
class Linear:
    """A linear classifier of normalised CLIP embeddings.

    weight: [d].
    bias: a scalar tensor.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, embedding: Tensor) -> float:
        """The logit of an embedding [d]."""
        return float(embedding @ self.weight + self.bias)


@dataclass(frozen=True)
class ClipScores:
    """Scores pictures with CLIP, for `filter.filter_folder`.

    match: the cosine of picture and caption, given only if there is a caption.
    aesthetic: the logit of the classifier of that name.
    unsafe: the sigmoid of that classifier's logit, a probability.
    """

    scorer: ClipScorer
    aesthetic: Linear | None = None
    unsafe: Linear | None = None
    _text_embeddings: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def __call__(self, image: Image.Image, caption: str) -> Mapping[str, float]:
        """The scores of a picture by name; see the class."""
        embedding, scores = self.scorer.image_embeddings(from_pil(image)[None])[0], {}
        if caption:
            if caption not in self._text_embeddings:
                self._text_embeddings[caption] = self.scorer.text_embeddings([caption])[0]
            scores["match"] = float(embedding @ self._text_embeddings[caption])
        if self.aesthetic is not None:
            scores["aesthetic"] = self.aesthetic(embedding)
        if self.unsafe is not None:
            scores["unsafe"] = float(torch.sigmoid(torch.tensor(self.unsafe(embedding))))
        return scores


def read_linear(path: Path, width: int) -> Linear:
    """Read a linear classifier from a safetensors file: `weight` of `width` numbers and an optional `bias`.

    Raises:
        BadWeights: the file is not a linear classifier, or it was made for another CLIP.
    """
    if not path.is_file():
        raise BadWeights(f"{str(path)!r} is missing: give a safetensors file")
    tensors = read_tensors(path)
    weight, bias = tensors.get("weight"), tensors.get("bias", torch.zeros(1))
    if weight is None or weight.numel() != width or bias.numel() != 1:
        contents = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items()) or "nothing"
        raise BadWeights(
            f"{str(path)!r} needs a weight of {width} numbers and at most one bias, it has {contents}"
        )
    return Linear(weight.flatten(), bias.flatten()[0])
