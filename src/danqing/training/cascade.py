"""Training the stages of a cascade: each denoises a picture given a small, noisy copy of it.

Imagen, arXiv 2205.11487 section 2.4: the copy is noised at a random level s, which the network gets as an
input. Stages without self-attention may learn large pictures from crops.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from danqing.conditioning.masked_text_encoder import MaskedEncoder
from danqing.core.brief import Brief
from danqing.core.files import atomic_write
from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.data.dataset import CaptionedImages
from danqing.diffusion.cascade import SuperResolution
from danqing.training.diffusion import Captions, Conditioner, DenoisingObjective, DiffusionOptions
from danqing.training.objective import Batch
from danqing.training.sheets import sheet_of


class MaskedCaptions(Captions):
    """Captions for a text encoder with an attention mask (True for tokens, False for padding)."""

    def __init__(self, text: MaskedEncoder, pictures: CaptionedImages, options: DiffusionOptions) -> None:
        super().__init__(text, pictures, options)
        self._reader = text

    def place(self, device: torch.device) -> None:
        """Move the text encoder."""
        self._reader.place(device)

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:  # noqa: ARG002  see Conditioner
        """Token ids of a random caption, int64 [n l], and their attention mask, bool [n l]."""
        ids, mask = self._reader.tokenize(self.captions_of(picks, rng))
        return {"ids": ids, "mask": mask}

    def conditioning(self, batch: Batch) -> Conditioning:
        """Encode the captions."""
        return self._reader.encode_ids(batch["ids"], batch["mask"])


class Wordless:
    """A `Conditioner` without captions."""

    def place(self, _device: torch.device, /) -> None:
        """Nothing to move."""

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:  # noqa: ARG002  see Conditioner
        """One zero token for each picture, [n 1 1]."""
        return {"tokens": torch.zeros(len(picks), 1, 1)}

    def conditioning(self, batch: Batch) -> Conditioning:
        """The zero tokens as a `Conditioning`."""
        return Conditioning(batch["tokens"])


class LowResolution:
    """The conditioning of `words` and the low-resolution picture, which is enlarged and noised at random."""

    def __init__(self, stage: SuperResolution, words: Conditioner) -> None:
        self._stage, self._words = stage, words

    def place(self, device: torch.device) -> None:
        """Move the networks of `words`."""
        self._words.place(device)

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:
        """The downsampled pictures, their noise levels s ~ U(0, 1) and the noise."""
        return {
            **self._words.draw(picks, latents, rng),
            "small": F.avg_pool2d(latents, self._stage.factor),
            "level": torch.rand(len(latents), generator=rng),
            "veil": torch.randn(latents.shape, generator=rng),
        }

    def conditioning(self, batch: Batch) -> Conditioning:
        """The conditioning of `words` with the noised low-resolution pictures."""
        words = self._words.conditioning(batch)
        return self._stage.with_low_resolution(words, batch["small"], batch["level"], batch["veil"])


class StageObjective(DenoisingObjective):
    """Trains the network of a stage. Without a subclass it trains the base stage, which gets no picture."""

    unet: nn.Module

    def export(self, folder: Path) -> None:
        """Write the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "model.safetensors") as draft:
            save_file(self.unet.state_dict(), draft)


class SuperResolutionObjective(StageObjective):
    """Trains `unet`, the network of `stage.painter`, from crops of `crop` pixels, or whole pictures if None.

    pictures: at the size of the stage, or larger by a whole factor.
    """

    def __init__(
        self,
        stage: SuperResolution,
        unet: nn.Module,
        pictures: CaptionedImages,
        words: Conditioner | None = None,
        options: DiffusionOptions | None = None,
        crop: int | None = None,
    ) -> None:
        words, options = words or Wordless(), options or DiffusionOptions()
        super().__init__(stage.painter, unet, pictures, LowResolution(stage, words), options)
        self._stage, self._words, self._crop = stage, words, crop

    def _draw(self, size: int, rng: Generator) -> tuple[Tensor, Tensor]:
        picks, whole = super()._draw(size, rng)
        side = whole.shape[-1]
        crop = min(self._crop or side, side)
        corners = torch.randint(side - crop + 1, (size, 2), generator=rng).tolist()
        cut = [picture[:, y : y + crop, x : x + crop] for picture, (y, x) in zip(whole, corners, strict=True)]
        return picks, torch.stack(cut)

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Rows of small pictures (enlarged by repetition), painted ones and true ones."""
        whole = self._latents[0]
        picks = torch.arange(0, len(whole), max(1, len(whole) // 8))[:8]
        large = whole[picks]
        small = F.avg_pool2d(large, self._stage.factor)
        coarse = F.interpolate(small, size=large.shape[-2:], mode="nearest")
        return sheet_of(torch.cat([coarse, self._paint(picks, small), large]), columns=len(large))

    def _paint(self, picks: Tensor, small: Tensor) -> Tensor:
        """Upscale small pictures [n c h w] by the stage; the seed of each is its index."""
        painter, seeds = self._stage.painter, Seeds(range(len(small)))
        height, width = (side * self._stage.factor for side in small.shape[-2:])
        plain = Brief(prompt="-", seed=0, native=True, width=width, height=height, guidance=1.0)
        brief = plain.resolve(painter.card)
        words = self._words.conditioning(self._words.draw(picks, small, Generator().manual_seed(0)))
        level, veil = (
            torch.full((len(small),), self._stage.level),
            seeds.normal(*small.shape[1:2], height, width),
        )
        low_res_conditioning = self._stage.with_low_resolution(words, small, level, veil)
        *_, last = painter.steps(
            brief, low_res_conditioning, painter.begin(brief, low_res_conditioning, seeds)
        )
        return painter.finish(last)
