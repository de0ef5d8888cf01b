"""Training the x4 upscaler: L1 in colour and alpha, and L1 of their gradients so that edges stay sharp."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import save_file
from torch import Generator, Tensor

from danqing.core.files import atomic_write
from danqing.data.dataset import CaptionedImages, to_unit
from danqing.evaluation.metrics import psnr
from danqing.nets.upscaler import Upscaler
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of


class UpscalerObjective(Objective):
    """Learns to undo area downsampling by the network's factor.

    pictures: large pictures. Their downsampled copies are blurred and noised a little at random, because
        painted pictures look like that.
    """

    def __init__(
        self, upscaler: Upscaler, pictures: CaptionedImages, probe: CaptionedImages, crop: int = 128
    ) -> None:
        super().__init__()
        self.upscaler = upscaler
        self._pictures, self._probe, self._crop = pictures, probe, crop

    def batch(self, size: int, rng: Generator) -> Batch:
        """Large crops and their small, degraded versions."""
        picks = torch.randint(len(self._pictures), (size,), generator=rng).tolist()
        reach = self._pictures.pictures.shape[-1] - self._crop + 1
        corners = torch.randint(reach, (size, 2), generator=rng).tolist()
        crops = [
            self._pictures.pictures[i, :, y : y + self._crop, x : x + self._crop]
            for i, (y, x) in zip(picks, corners, strict=True)
        ]
        large = to_unit(torch.stack(crops))
        small = F.avg_pool2d(large, self.upscaler.config.scale)
        soft = F.avg_pool2d(F.pad(small, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        blend = 0.6 * torch.rand(size, 1, 1, 1, generator=rng)
        noise = 0.03 * torch.rand(size, 1, 1, 1, generator=rng) * torch.randn(small.shape, generator=rng)
        return {"large": large, "small": small + blend * (soft - small) + noise}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """L1 and L1 of gradients."""
        difference = self.upscaler(batch["small"]).float() - batch["large"]
        l1 = difference.abs().mean()
        edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        return {"loss": l1 + edges, "l1": l1.detach()}

    @torch.no_grad()
    def psnr(self, count: int = 24) -> tuple[float, float]:
        """PSNR in dB on the probe pictures over all four channels: (upscaler, bicubic)."""
        large = to_unit(self._probe.pictures[:count]).to(self.device)
        small = F.avg_pool2d(large, self.upscaler.config.scale)
        ours = torch.cat([self.upscaler(part) for part in torch.split(small, 4)])
        bicubic = F.interpolate(small, size=large.shape[-2:], mode="bicubic", align_corners=False)
        first, second = (float(psnr(made.clamp(-1, 1), large).mean()) for made in (ours, bicubic))
        return first, second

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Rows of small pictures (enlarged by repetition), upscaled ones and originals."""
        large = to_unit(self._probe.pictures[:4]).to(self.device)
        small = F.avg_pool2d(large, self.upscaler.config.scale)
        coarse = F.interpolate(small, size=large.shape[-2:], mode="nearest")
        return sheet_of(torch.cat([coarse, self.upscaler(small), large]), columns=4)

    def export(self, folder: Path) -> None:
        """Write the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "model.safetensors") as draft:
            save_file(self.upscaler.state_dict(), draft)
