"""Accuracy of painted pictures according to the judge: whether they show the wanted things and styles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.nets.judge import Judge

Pair = tuple[str, str]  # concept, style


@dataclass(frozen=True)
class ClassifierMetrics:
    """The judge's result on a set of pictures. Shares are in [0, 1].

    top1, top5: share of pictures whose wanted thing is the first, or among the first five.
    style: share of pictures with the wanted style.
    by_style: the same for each style.
    features: the judge's features [n d].
    labels: the predicted thing and style [n 2].
    """

    top1: float
    top5: float
    style: float
    by_style: dict[str, float]
    features: Tensor
    labels: Tensor


def classifier_metrics(judge: Judge, pictures: Tensor, pairs: Sequence[Pair]) -> ClassifierMetrics:
    """Classify pictures [n c h w] in [-1, 1] that should show `pairs`."""
    concepts = {name: i for i, name in enumerate(judge.config.concepts)}
    styles = {name: i for i, name in enumerate(judge.config.styles)}
    concept, style, features = judge.predict(pictures)
    targets = torch.tensor([[concepts[c], styles[s]] for c, s in pairs])
    ranks = concept.topk(min(5, len(concepts)), dim=1).indices == targets[:, :1]
    labels = torch.stack([concept.argmax(dim=1), style.argmax(dim=1)], dim=1)
    right = labels[:, 1] == targets[:, 1]
    return ClassifierMetrics(
        top1=float(ranks[:, 0].float().mean()),
        top5=float(ranks.any(dim=1).float().mean()),
        style=float(right.float().mean()),
        by_style={
            name: float(right[targets[:, 1] == index].float().mean())
            for name, index in styles.items()
            if (targets[:, 1] == index).any()
        },
        features=features,
        labels=labels,
    )
