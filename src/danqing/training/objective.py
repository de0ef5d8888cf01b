"""The interface between a trainer and a network with its loss."""

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

    `batch` makes all random choices, with the generator it is given, so that a step is a pure function of
    (weights, seed, step): so an interrupted run resumes bit-equal. `forward` is deterministic.
    """

    least = 1  # the smallest batch that the loss can learn from, in pictures
    row_wise = True  # the loss is a mean over rows, so several processes may share a batch

    def check_batch(self, size: int) -> None:
        """Check, before training starts, that batches of `size` are large enough.

        Raises:
            BadData: the message names the size and the least size.
        """
        if size < self.least:
            raise BadData(
                f"batches of {size} are too small for {type(self).__name__}: use {self.least} or more"
            )

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def place(self, device: torch.device) -> None:
        """Move all networks that `forward` and `sheet` use, the frozen ones too."""
        self.to(device)

    @abstractmethod
    def batch(self, size: int, rng: Generator) -> Batch:
        """One batch on the CPU: the data, the noise and everything else that is random."""

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses as scalars; `loss` is the one to minimise, the others are for the log."""

    @abstractmethod
    def sheet(self) -> Image.Image:
        """A sample sheet that shows the quality reached so far, on fixed inputs."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the weights in the format that inference reads."""
