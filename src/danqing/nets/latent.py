"""The base classes of the generators and discriminators of GANs.

A label [n k] says which of k class names a picture shows: 1 for each that applies, 0 for the others; values
between mix classes. All zeros means no class; k may be 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

Drawn = dict[str, Tensor]
"""The random inputs of one pass of a generator, each [n ...]."""


def halvings(size: int, least: int = 8) -> int:
    """How often a side of `size` pixels must be halved until it is 4.

    Raises:
        ValueError: the side is not a power of two, or is smaller than `least`.
    """
    if size < least or size & (size - 1):
        raise ValueError(f"a side of {size} pixels is no power of two: use {' or '.join(near_sides(size))}")
    return size.bit_length() - 3


def near_sides(size: int, least: int = 8) -> list[str]:
    """The nearest powers of two below and above `size`, as text."""
    below = max(least, 1 << max(size, 1).bit_length() - 1)
    return [str(below)] if size <= least else [str(below), str(2 * below)]


class LatentGenerator(nn.Module, ABC):
    """Paints a square picture from a latent vector and a label."""

    size: int
    """Side of the pictures in pixels."""

    labels: int
    """Number of class names, k."""

    @abstractmethod
    def draw(self, n: int, rng: Generator) -> Drawn:
        """Draw the random inputs for n pictures, on the CPU."""

    @abstractmethod
    def forward(self, drawn: Drawn, label: Tensor) -> Tensor:
        """Random inputs for n pictures and label [n k] -> pictures [n c size size] in about [-1, 1]."""

    @abstractmethod
    def check_batch(self, n: int) -> None:
        """Check before training that it can be trained on batches of n pictures.

        Raises:
            BadData: it cannot; the message names n and what it needs.
        """


class Discriminator(nn.Module, ABC):
    """Classifies pictures as real or generated."""

    @abstractmethod
    def forward(self, pixels: Tensor, label: Tensor) -> Tensor:
        """Pictures [n c size size] and label [n k] -> logits [n], positive for real pictures."""

    @abstractmethod
    def check_batch(self, n: int) -> None:
        """As `LatentGenerator.check_batch`."""


class Verdict(nn.Module):
    """The last layer of a conditional discriminator: projection (arXiv 1802.05637 eq. 3).

    logit = head(f) + <embedding(label), f> / sqrt(d), with features f [n d].

    width: width of the features, d.
    labels: number of class names, k.
    linear: (inputs, outputs, bias) -> a linear layer.
    """

    def __init__(self, width: int, labels: int, linear: Callable[..., nn.Module] = nn.Linear) -> None:
        super().__init__()
        self.head = linear(width, 1)
        self.label_embedding = linear(labels, width, bias=False) if labels else None

    def forward(self, features: Tensor, label: Tensor) -> Tensor:
        """Features [n d] and label [n k] -> logits [n]."""
        logits: Tensor = self.head(features)[:, 0]
        if self.label_embedding is None:
            return logits
        projected: Tensor = (self.label_embedding(label) * features).sum(dim=1)
        return logits + projected / math.sqrt(features.shape[1])


def current_key(name: str) -> str:
    """The current key of a tensor, from its key in a file of danqing 0.1 or later."""
    return name.replace("told.", "label_embedding.")


def normal(n: int, width: int, rng: Generator) -> Tensor:
    """Latent vectors [n width], standard normal."""
    return torch.randn(n, width, generator=rng)
