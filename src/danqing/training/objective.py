"""What a trainer needs of a thing to be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from PIL import Image
from torch import Generator, Tensor, nn

from danqing.core.errors import BadData

Batch = dict[str, Tensor]


class Objective(nn.Module, ABC):
    """A network with its data and its loss.

    `batch` owns all randomness, drawn from the generator it is given, so that a step is a pure function of
    (weights, seed, step): that makes an interrupted run resume bit-equal. `forward` only computes.
    """

    least = 1  # pictures that a batch needs
    row_wise = True  # the loss is a mean over rows, so several processes may share a batch

    def check_batch(self, size: int) -> None:
        """Tell before training that nothing can be learned from batches of `size`.

        Raises:
            BadData: naming the size and what it needs.
        """
        if size < self.least:
            raise BadData(
                f"batches of {size} are too small for {type(self).__name__}: use {self.least} or more"
            )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def place(self, device: torch.device) -> None:
        """Move what `forward` and `sheet` compute with, the frozen parts too."""
        self.to(device)

    @abstractmethod
    def batch(self, size: int, rng: Generator) -> Batch:
        """One batch on the CPU: data, noise, everything random."""

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars to report; `loss` is the one to minimise."""

    @abstractmethod
    def sheet(self) -> Image.Image:
        """A picture of how well it does now, on fixed inputs."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the weights in the form in which they are used."""
