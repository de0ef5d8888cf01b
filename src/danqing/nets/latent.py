"""What the networks of GANs have in common: one paints from a latent vector, the other judges a picture.

A label [n k] tells what a picture shows: 1 for each of k names that apply, 0 for the others, and anything
between to mix. All zeros is an unnamed picture; k may be 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

Drawn = dict[str, Tensor]
"""All that is random in one pass of a generator, each [n ...]."""


def halvings(size: int, least: int = 8) -> int:
    """How often a side of `size` pixels can be halved before it is 4.

    Raises:
        ValueError: the side is no power of two, or smaller than `least`.
    """
    if size < least or size & (size - 1):
        raise ValueError(f"a side of {size} pixels is no power of two: use {' or '.join(near_sides(size))}")
    return size.bit_length() - 3


def near_sides(size: int, least: int = 8) -> list[str]:
    """The powers of two on both sides of `size`, as text."""
    below = max(least, 1 << max(size, 1).bit_length() - 1)
    return [str(below)] if size <= least else [str(below), str(2 * below)]


class LatentGenerator(nn.Module, ABC):
    """Paints a square picture from a latent vector and a label."""

    size: int
    """Side of the pictures in pixels."""

    labels: int
    """How many names it knows, k."""

    @abstractmethod
    def draw(self, n: int, rng: Generator) -> Drawn:
        """What n pictures are painted from, on the CPU."""

    @abstractmethod
    def forward(self, drawn: Drawn, label: Tensor) -> Tensor:
        """Drawn for n pictures, label [n k] -> pictures [n c size size], in about [-1, 1]."""

    @abstractmethod
    def check_batch(self, n: int) -> None:
        """Tell before training that it cannot learn from batches of n.

        Raises:
            BadData: naming n and what it needs.
        """


class Discriminator(nn.Module, ABC):
    """Tells real pictures from painted ones."""

    @abstractmethod
    def forward(self, pixels: Tensor, label: Tensor) -> Tensor:
        """Pictures [n c size size] and what they shall show [n k] -> logits [n], positive for real."""

    @abstractmethod
    def check_batch(self, n: int) -> None:
        """As `LatentGenerator.check_batch`."""


class Verdict(nn.Module):
    """The last layer of a discriminator that knows labels: projection (arXiv 1802.05637 eq. 3).

    logit = head(f) + <embedding(label), f> / sqrt(d), with features f [n d].

    width: d.
    labels: how many names there are, k.
    linear: makes a layer from inputs, outputs and whether there is a bias.
    """

    def __init__(self, width: int, labels: int, linear: Callable[..., nn.Module] = nn.Linear) -> None:
        super().__init__()
        self.head = linear(width, 1)
        self.label_embedding = linear(labels, width, bias=False) if labels else None

    def forward(self, features: Tensor, label: Tensor) -> Tensor:
        """[n d] and [n k] -> [n]."""
        logits: Tensor = self.head(features)[:, 0]
        if self.label_embedding is None:
            return logits
        projected: Tensor = (self.label_embedding(label) * features).sum(dim=1)
        return logits + projected / math.sqrt(features.shape[1])


def current_key(name: str) -> str:
    """The name that a network gives a tensor today, for its name in a file of danqing 0.1 or later."""
    return name.replace("told.", "label_embedding.")


def normal(n: int, width: int, rng: Generator) -> Tensor:
    """Latent vectors [n width], standard normal."""
    return torch.randn(n, width, generator=rng)
