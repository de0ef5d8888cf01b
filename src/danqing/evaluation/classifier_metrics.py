"""What the judge thinks of a set of pictures that should show given things in given styles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.nets.judge import Judge

Pair = tuple[str, str]  # concept, style


@dataclass(frozen=True)
class ClassifierMetrics:
    """Shares in [0, 1], the judge's features [n d] and its labels [n 2].

    by_style: of the pictures that should be of a style, how many are.
    """

    top1: float
    top5: float
    style: float
    by_style: dict[str, float]
    features: Tensor
    labels: Tensor


def classifier_metrics(judge: Judge, pictures: Tensor, pairs: Sequence[Pair]) -> ClassifierMetrics:
    """Ask the judge about pictures [n c h w] in [-1, 1] that should show `pairs`."""
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
