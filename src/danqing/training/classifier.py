"""Trains the judge: a small classifier of concept and style, on real pictures only, with strong augmentation.

It is never used to train or guide a painter, so that it can evaluate painted pictures independently.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor

from danqing.core.errors import BadData
from danqing.data.augment import Augment
from danqing.data.dataset import CaptionedImages, to_unit
from danqing.nets.judge import Judge
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

STRONG = Augment(turn=15, scale=0.22, move=0.1, light=0.25, tint=0.2, erase=0.5)
DROPOUT = 0.2  # of the features that the concept is classified from (arXiv 1207.0580)


class JudgeObjective(Objective):
    """Cross-entropy over concepts and over styles, with label smoothing.

    Raises:
        BadData: the pictures' side is not a multiple of the judge's.
    """

    least = 2  # batch norm needs at least two rows

    row_wise = False  # batch normalisation couples the rows of a batch

    def __init__(self, judge: Judge, pictures: CaptionedImages, probe: CaptionedImages) -> None:
        super().__init__()
        judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.judge, self._pictures, self._probe = judge, pictures, probe
        side = int(pictures.pictures.shape[-1])
        self._pooling, rest = divmod(side, judge.config.size)
        if rest or not self._pooling:
            raise BadData(
                f"pictures of {side} pixels are no multiple of the judge's {judge.config.size}: resize them"
            )
        self._labels = _labels(judge, pictures)

    def batch(self, size: int, rng: Generator) -> Batch:
        """Augmented pictures on white [n 3 s s], some of them blurred, labels [n 2] and a dropout mask."""
        picks = torch.randint(len(self._pictures), (size,), generator=rng)
        pixels = F.avg_pool2d(to_unit(self._pictures.pictures[picks, :3]), self._pooling)
        blurred = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear", align_corners=False)
        pixels = torch.where(torch.rand(size, 1, 1, 1, generator=rng) < 0.3, blurred, pixels)
        keep = (torch.rand(size, self.judge.config.widths[-1], generator=rng) >= DROPOUT) / (1 - DROPOUT)
        return {"pixels": STRONG(pixels, rng), "labels": self._labels[picks], "keep": keep}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The two cross-entropies, and their weighted sum."""
        deep, texture = self.judge.features(batch["pixels"].contiguous(memory_format=torch.channels_last))
        concept, style = self.judge.concept(deep * batch["keep"]), self.judge.style(texture)
        parts = {
            "concept": F.cross_entropy(concept.float(), batch["labels"][:, 0], label_smoothing=0.1),
            "style": F.cross_entropy(style.float(), batch["labels"][:, 1], label_smoothing=0.1),
        }
        return {"loss": parts["concept"] + 0.5 * parts["style"], **{k: v.detach() for k, v in parts.items()}}

    @torch.no_grad()
    def accuracy(self) -> tuple[float, float]:
        """Top-1 on the probe pictures: (concept, style)."""
        right = self.judge.label(to_unit(self._probe.pictures).to(self.device)).cpu() == _labels(
            self.judge, self._probe
        )
        concept, style = right.float().mean(dim=0).tolist()
        return concept, style

    def sheet(self) -> Image.Image:
        """Augmented training pictures."""
        return sheet_of(self.batch(32, Generator().manual_seed(0))["pixels"], columns=8)

    def export(self, folder: Path) -> None:
        """Write the weights, and the names of concepts and styles."""
        self.judge.save(folder)


def _labels(judge: Judge, pictures: CaptionedImages) -> Tensor:
    concepts = {name: i for i, name in enumerate(judge.config.concepts)}
    styles = {name: i for i, name in enumerate(judge.config.styles)}
    return torch.tensor([[concepts[row["concept"]], styles[row["style"]]] for row in pictures.rows])
