"""Trains a ViT classifier on few pictures: strong augmentation, and two pictures mixed into one.

Papers: mixup arXiv 1710.09412; CutMix arXiv 1905.04899; what small ViTs need, arXiv 2106.10270.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor
from transformers import ViTForImageClassification

from danqing.core.errors import BadData
from danqing.data.augment import Augment
from danqing.data.dataset import CaptionedImages, to_unit
from danqing.families.vit import save_classifier
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

STRONG = Augment(turn=15, scale=0.22, move=0.1, light=0.25, tint=0.2, erase=0.5)
MIXED = 0.5  # share of the batches whose pictures are mixed


class VitObjective(Objective):
    """Cross-entropy over the concepts of a data set, with label smoothing.

    Raises:
        BadData: there are fewer than two classes, the network has no class for a concept, or the pictures'
            side is not a multiple of the network's.
    """

    def __init__(
        self, model: ViTForImageClassification, pictures: CaptionedImages, probe: CaptionedImages
    ) -> None:
        super().__init__()
        self.model, self._pictures, self._probe = model, pictures, probe
        side, size = int(pictures.pictures.shape[-1]), model.config.image_size
        self._pooling, rest = divmod(side, size)
        if rest or not self._pooling:
            raise BadData(f"pictures of {side} pixels are no multiple of the network's {size}: resize them")
        self._labels = self._labels_of(pictures)

    def batch(self, size: int, rng: Generator) -> Batch:
        """Augmented pictures on white [n 3 s s], half of the batches mixed, and the weight of each class."""
        picks = torch.randint(len(self._pictures), (size,), generator=rng)
        pixels = STRONG(self._small(self._pictures.pictures[picks]), rng)
        targets = F.one_hot(self._labels[picks], self.model.config.num_labels).float()
        how, share = torch.rand(2, generator=rng).tolist()
        if how < MIXED:
            pixels, kept = (_mixup if how < MIXED / 2 else _cut_mix)(pixels, share, rng)
            targets = kept * targets + (1 - kept) * targets.roll(1, dims=0)
        return {"pixels": pixels, "labels": targets}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The cross-entropy, and the share of pictures whose likeliest class is their main label."""
        logits = self.model(batch["pixels"]).logits.float()
        loss = F.cross_entropy(logits, batch["labels"], label_smoothing=0.1)
        right = (logits.argmax(dim=1) == batch["labels"].argmax(dim=1)).float().mean()
        return {"loss": loss, "right": right.detach()}

    def pictures(self, count: int) -> Tensor:
        """The first pictures as inputs of the network, [count 3 s s], without augmentation."""
        return self._small(self._pictures.pictures[:count]).to(self.device)

    @torch.no_grad()
    def accuracy(self) -> float:
        """Top-1 on the probe pictures."""
        logits = self.model.eval()(self._small(self._probe.pictures).to(self.device)).logits.cpu()
        return float((logits.argmax(dim=1) == self._labels_of(self._probe)).float().mean())

    def sheet(self) -> Image.Image:
        """Augmented training pictures."""
        return sheet_of(self.batch(32, Generator().manual_seed(0))["pixels"], columns=8)

    def export(self, folder: Path) -> None:
        """Write an ordinary folder of transformers."""
        save_classifier(self.model, folder)

    def _small(self, pictures: Tensor) -> Tensor:
        return F.avg_pool2d(to_unit(pictures[:, :3]), self._pooling)

    def _labels_of(self, pictures: CaptionedImages) -> Tensor:
        pictures.require("concept")
        label_ids, names = self.model.config.label2id, pictures.column("concept")
        strange = [name for name in names if name not in label_ids]
        if strange:
            raise BadData(f"{strange[0]!r} is no name that the network knows: train it for these pictures")
        if len(label_ids) < 2:
            raise BadData(f"all pictures show {names[0]!r}: there is nothing to tell apart, add other things")
        return torch.tensor([label_ids[name] for name in names])


def _mixup(pixels: Tensor, share: float, _rng: Generator) -> tuple[Tensor, float]:
    """Blend each picture with the one before it (mixup); also returns the share that it keeps."""
    kept = 0.5 + 0.5 * share
    return kept * pixels + (1 - kept) * pixels.roll(1, dims=0), kept


def _cut_mix(pixels: Tensor, share: float, rng: Generator) -> tuple[Tensor, float]:
    """Paste a square of the picture before into each one (CutMix); also returns the share that it keeps."""
    side = pixels.shape[-1]
    edge = max(1, int(side * (0.5 * share) ** 0.5))
    left, top = torch.randint(side - edge + 1, (2,), generator=rng).tolist()
    mixed = pixels.clone()
    rows, columns = slice(top, top + edge), slice(left, left + edge)
    mixed[..., rows, columns] = pixels.roll(1, dims=0)[..., rows, columns]
    return mixed, 1 - edge**2 / side**2
