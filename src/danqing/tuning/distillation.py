"""Few-step painting: an adapter whose single steps reach what many guided steps would reach.

Latent consistency distillation, Luo et al., arXiv 2310.04378, algorithm 1, as low-rank changes (LCM-LoRA,
arXiv 2311.05556). On a grid of times t_0 > ... > t_n the teacher, which is the painter without the adapter,
guided with omega, takes one DDIM step from t_k to t_k+1. The student's estimate of the clean picture at t_k
is trained to equal its estimate at t_k+1:

    loss = d(f(x_k, t_k), stopgrad f(x_k+1, t_k+1)),    f at the last, noise-free time being the teacher's
    step.

As "Improved techniques for training consistency models" (arXiv 2310.14189) found best, f at t_k+1 uses the
present weights, and d is the pseudo-Huber distance sqrt(|a - b|^2 + c^2) - c with c = 0.00054 sqrt(numbers).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Generator, Tensor, nn

from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.data.dataset import CaptionedImages
from danqing.diffusion.guidance import classifier_free
from danqing.diffusion.painter import DiffusionPainter
from danqing.training.diffusion import Captions, DenoisingObjective, DiffusionOptions, paint_pixels
from danqing.training.objective import Batch
from danqing.training.sheets import sheet_of
from danqing.tuning.adapter import Adapter, attach
from danqing.tuning.adapter_files import write_adapter
from danqing.tuning.lora import layers_of, new_factors
from danqing.tuning.textual_inversion import text_encoder

GRID = 40  # number of times; those of 2, 4 and 8 even steps are among them
_HUBER = 0.00054
_PROBED = 4  # steps of the pictures in the sample sheet


class ConsistencyObjective(DenoisingObjective):
    """Trains `adapter` so that `painter` paints in few steps.

    The painter's networks must be frozen (`dreambooth.freeze_networks`).

    guidance: omega, which the adapter learns to imitate: paint with the sampler "lcm" at guidance 1.
    """

    def __init__(
        self,
        painter: DiffusionPainter,
        adapter: Adapter,
        pictures: CaptionedImages,
        guidance: float,
        options: DiffusionOptions,
    ) -> None:
        conditional = Captions(text_encoder(painter), pictures, options)
        super().__init__(painter, painter.modules["unet"], pictures, conditional, options)
        self.adapter, self.guidance = adapter, guidance
        self.learned = nn.ParameterList(adapter.tensors())
        self._nothing = _unconditional(painter)
        levels = painter.schedule.levels(GRID, "trailing")
        # the time of the level without noise is -1
        self._grid = torch.tensor([round(level.t) for level in levels])

    def place(self, device: torch.device) -> None:
        """Move as the parent does, and the unconditional states too."""
        super().place(device)
        self._nothing = _unconditional(self.painter)

    def batch(self, size: int, rng: Generator) -> Batch:
        """As the parent's batch, with the next time on the grid."""
        drawn = torch.randint(GRID, (size,), generator=rng)
        return super().batch(size, rng) | {"t": self._grid[drawn], "then": self._grid[drawn + 1]}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The distance of the module's docstring."""
        t, then = batch["t"], batch["then"]
        alpha, sigma = self._at(t)
        x = alpha * batch["latents"] + sigma * batch["noise"]
        with torch.no_grad():
            words = self._conditioner.conditioning(batch)
            guided = self._guided_x0(x, t, words)
            alpha_then, sigma_then = self._at(then)
            moved = alpha_then * guided + sigma_then * (x - alpha * guided) / sigma
            with attach(self.painter, {self.adapter: 1.0}):
                target = self._clean(moved, then.clamp(min=0), words)
            target = torch.where(then.view(-1, 1, 1, 1) < 0, guided, target)
        with attach(self.painter, {self.adapter: 1.0}):
            error = (self._clean(x, t, words) - target).square().flatten(1).sum(dim=1)
        c = _HUBER * math.sqrt(x[0].numel())
        return {"loss": ((error + c**2).sqrt() - c).mean()}

    def sheet(self) -> Image.Image:
        """Pictures of the probe captions, two each, painted in a few steps."""
        steps = {"steps": _PROBED, "guidance": 1.0, "sampler": "lcm"}
        quick = replace(self.painter, card=self.painter.card.model_copy(update=steps))
        with attach(quick, {self.adapter: 1.0}):
            pictures = [paint_pixels(quick, words, Seeds([0, 1])) for words in self._options.probes]
        return sheet_of(torch.cat(pictures), columns=8)

    def export(self, folder: Path) -> None:
        """Write the adapter with its present weights."""
        write_adapter(self.adapter.cpu_copy(), folder / f"{self.adapter.name}.safetensors")

    def _guided_x0(self, x: Tensor, t: Tensor, words: Conditioning) -> Tensor:
        """The guided painter's estimate of the clean x [n c h w], without the adapter."""
        nothing = self._nothing.expand(len(x))
        both = Conditioning.cat(Conditioning(nothing.tokens, nothing.mask), words)
        unconditional, conditional = self._clean(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return classifier_free(conditional, unconditional, self.guidance)

    def _clean(self, x: Tensor, t: Tensor, words: Conditioning) -> Tensor:
        alpha, sigma = self._at(t)
        output = self.painter.network(x, t, words).float()
        return self.painter.prediction.x0(x, output, alpha, sigma)

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma [n 1 1 1] at times on the grid; 1 and 0 at its last, noise-free time."""
        alpha, sigma = self.painter.schedule.at(t.clamp(min=0))
        alpha, sigma = torch.where(t < 0, 1.0, alpha), torch.where(t < 0, 0.0, sigma)
        return alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)


@torch.no_grad()
def _unconditional(painter: DiffusionPainter) -> Conditioning:
    return painter.text("")


def every_layer(painter: DiffusionPainter, rank: int, seed: int = 0) -> Adapter:
    """An untrained adapter for every layer of the painter's UNet; it changes nothing yet."""
    unet = {"unet": painter.modules["unet"]}
    endings = tuple(name.partition(".")[2] for name in layers_of(unet))
    return Adapter("fast", factors=new_factors(unet, {"unet": endings}, rank, seed), base=painter.card.name)
