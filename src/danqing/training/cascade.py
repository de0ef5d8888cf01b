"""Training the stages of a cascade: to denoise a picture besides a small and noisy copy of it.

Imagen, arXiv 2205.11487 section 2.4: the copy is noised at a random level s, which the network is told. Large
pictures may be learned from crops, since a stage without self-attention sees no further.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from danqing.core.brief import Brief
from danqing.core.files import replacing
from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.data import captions
from danqing.data.dataset import Stickers, to_unit
from danqing.diffusion.cascade import SuperResolution
from danqing.diffusion.loss import denoising_error, stratified_times
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

Telling = Callable[[Sequence[str]], Conditioning]
"""n texts -> words for n pictures, by a frozen encoder."""


@dataclass(frozen=True)
class StageOptions:
    """What varies between recipes. drop: the share of texts that are "", for classifier-free guidance.

    crop: the side that is learned from, in pixels of the stage, None for the whole picture. gamma: min-SNR
    weights (arXiv 2303.09556), None for none.
    """

    drop: float = 0.1
    crop: int | None = None
    gamma: float | None = None


class SuperResolutionObjective(Objective):
    """Trains `network`, which is what `stage.painter` asks.

    pictures: at the size of the stage or larger, by a whole factor. tell: None for a stage without words.
    """

    def __init__(
        self,
        stage: SuperResolution,
        network: nn.Module,
        pictures: Stickers,
        tell: Telling | None = None,
        options: StageOptions | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stage = stage
        self._rows, self._tell, self._options = pictures.rows, tell, options or StageOptions()
        whole = to_unit(pictures.pictures)
        self._pictures = F.avg_pool2d(whole, whole.shape[-1] // stage.painter.card.width)

    def batch(self, size: int, rng: Generator) -> Batch:
        """Large pictures, small ones, token states of their captions, times, levels and noise for both."""
        picks = torch.randint(len(self._rows), (size,), generator=rng).tolist()
        large = self._cropped(picks, rng)
        small = F.avg_pool2d(large, self.stage.factor)
        drawn = {
            "t": stratified_times(size, len(self.stage.painter.schedule), rng),
            "level": torch.rand(size, generator=rng),
            "noise": torch.randn(large.shape, generator=rng),
            "veil": torch.randn(large.shape, generator=rng),
        }
        return {"large": large, "small": small, **drawn, **self._told(picks, rng)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The squared error of the network's output against its target."""
        if "tokens" in batch:
            words = Conditioning(batch["tokens"], batch.get("mask"))
        else:
            words = _wordless(batch["large"])
        words = self.stage.seen(words, batch["small"], batch["level"], batch["veil"])
        error = denoising_error(
            self.stage.painter, batch["large"], words, batch["t"], batch["noise"], self._options.gamma
        )
        return {"loss": error.mean()}

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Small pictures (enlarged by repetition), painted ones, true ones."""
        large = self._pictures[:: max(1, len(self._pictures) // 8)][:8]
        small = F.avg_pool2d(large, self.stage.factor)
        coarse = F.interpolate(small, size=large.shape[-2:], mode="nearest")
        return sheet_of(torch.cat([coarse, self.painted(small), large]), columns=len(large))

    @torch.no_grad()
    def painted(self, small: Tensor) -> Tensor:
        """The stage's pictures of small ones [n c h w], without words, each from the seed of its place."""
        painter, seeds = self.stage.painter, Seeds(range(len(small)))
        height, width = (side * self.stage.factor for side in small.shape[-2:])
        asked = Brief(prompt="-", seed=0, native=True, width=width, height=height, guidance=1.0)
        brief = asked.settled(painter.card)
        words = _wordless(small) if self._tell is None else self._tell([""] * len(small))
        level = torch.full((len(small),), self.stage.level)
        seen = self.stage.seen(words, small, level, seeds.normal(small.shape[1], height, width))
        *_, last = painter.steps(brief, seen, painter.begin(brief, seen, seeds))
        return painter.finish(last)

    def export(self, folder: Path) -> None:
        """Write the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "model.safetensors") as draft:
            save_file(self.network.state_dict(), draft)

    def _cropped(self, picks: list[int], rng: Generator) -> Tensor:
        side = self._pictures.shape[-1]
        crop = min(self._options.crop or side, side)
        corners = torch.randint(side - crop + 1, (len(picks), 2), generator=rng).tolist()
        parts = (
            self._pictures[i, :, y : y + crop, x : x + crop] for i, (y, x) in zip(picks, corners, strict=True)
        )
        return torch.stack(list(parts))

    def _told(self, picks: list[int], rng: Generator) -> Batch:
        if self._tell is None:
            return {}
        chance = random.Random(int(torch.randint(2**31, (), generator=rng)))
        with torch.no_grad():
            words = self._tell([self._caption(self._rows[i], chance) for i in picks])
        return {"tokens": words.tokens} | ({} if words.mask is None else {"mask": words.mask})

    def _caption(self, row: dict[str, object], chance: random.Random) -> str:
        if chance.random() < self._options.drop:
            return ""
        if chance.random() < 0.5:
            return captions.english(str(row["concept"]), str(row["style"]), chance)
        return captions.chinese(str(row["concept_zh"]), str(row["style"]), chance)


def _wordless(pictures: Tensor) -> Conditioning:
    return Conditioning(pictures.new_zeros(len(pictures), 1, 1))
