"""Training the denoiser of a latent diffusion model (arXiv 2112.10752 eq. 3) with text dropped now and then.

Times are logit-normal (arXiv 2403.03206 section 3.1), since shapes are decided at middle noise, with a
uniform share so that no time goes untrained. Error in v on a cosine schedule needs no further weight: it is
the x_0 error times (snr + 1), which treats all middle times alike; `gamma` switches min-SNR on instead.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Generator, Tensor

from danqing.conditioning.text import TextEncoder
from danqing.core.brief import Brief
from danqing.core.errors import BadData
from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.data import captions
from danqing.data.dataset import Stickers, to_unit
from danqing.diffusion.codec import Codec
from danqing.diffusion.loss import denoising_error
from danqing.diffusion.painter import DiffusionPainter
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of


@dataclass(frozen=True)
class DiffusionOptions:
    """What varies between recipes. Shares and probabilities are in [0, 1]."""

    drop: float = 0.1  # captions replaced by "", for classifier-free guidance
    unstyled: float = 0.1  # captions that do not name the style
    mirror: float = 0.0  # pictures mirrored
    uniform: float = 0.2  # times drawn uniformly instead of logit-normally
    gamma: float | None = None  # min-SNR, arXiv 2303.09556
    probes: tuple[str, ...] = ("a cat, 3d style", "a red apple, cartoon style", "一只兔子，剪纸风格")


class DiffusionObjective(Objective):
    """Trains `painter.network`'s UNet; the text tower and the autoencoder stay frozen.

    The latents of all pictures, and of their mirror images if those are asked for, are computed once.

    Raises:
        BadData: captions are missing or all the same, or the network cannot take the pictures' size.
    """

    def __init__(
        self,
        painter: DiffusionPainter,
        unet: UNet2DConditionModel,
        pictures: Stickers,
        options: DiffusionOptions,
    ) -> None:
        super().__init__()
        pictures.check_captions()
        sides, grid = pictures.pictures.shape[-2:], painter.card.grid
        if any(side % grid for side in sides):
            raise BadData(
                f"pictures of {sides[1]} x {sides[0]} pixels are no multiple of {grid}: resize them"
            )
        self.unet = unet.to(memory_format=torch.channels_last)
        self.painter = painter
        self._pictures, self._options = pictures, options
        views = [pictures.pictures] + ([pictures.pictures.flip(-1)] if options.mirror else [])
        self._latents = [_encoded(painter.codec, view) for view in views]

    def batch(self, size: int, rng: Generator) -> Batch:
        """Latents, token states of a random caption, times and noise."""
        picks = torch.randint(len(self._pictures), (size,), generator=rng)
        mirrored = torch.rand(size, generator=rng) < self._options.mirror
        latents = torch.where(mirrored.view(-1, 1, 1, 1), self._latents[-1][picks], self._latents[0][picks])
        words = random.Random(int(torch.randint(2**31, (), generator=rng)))
        said = [self._caption(self._pictures.rows[i], words) for i in picks.tolist()]
        text = self._text()
        ids = text.tokenizer(
            said, padding="max_length", truncation=True, max_length=text.max_length, return_tensors="pt"
        )["input_ids"]
        times = self._times(size, rng)
        noise = torch.randn(latents.shape, generator=rng)
        return {"latents": latents, "ids": ids, "t": times, "noise": noise}

    def _text(self) -> TextEncoder:
        assert isinstance(self.painter.text, TextEncoder)
        return self.painter.text

    def _caption(self, row: dict[str, object], words: random.Random) -> str:
        if words.random() < self._options.drop:
            return ""
        style = None if words.random() < self._options.unstyled else str(row["style"])
        if words.random() < 0.5:
            return captions.english(str(row["concept"]), style, words)
        return captions.chinese(str(row["concept_zh"]), style, words)

    def _times(self, size: int, rng: Generator) -> Tensor:
        logit_normal = torch.sigmoid(torch.randn(size, generator=rng))
        uniform = torch.rand(size, generator=rng)
        u = torch.where(torch.rand(size, generator=rng) < self._options.uniform, uniform, logit_normal)
        steps = len(self.painter.schedule)
        return (u * steps).long().clamp(max=steps - 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The squared error of the network's output against its target."""
        with torch.no_grad():
            words = Conditioning(self._text().states(batch["ids"]))
        error = denoising_error(
            self.painter, batch["latents"], words, batch["t"], batch["noise"], self._options.gamma
        )
        return {"loss": error.mean()}

    def sheet(self) -> Image.Image:
        """The probe captions, two pictures each, by the painter itself at its defaults."""
        pictures = [paint_pixels(self.painter, words, Seeds([0, 1])) for words in self._options.probes]
        return sheet_of(torch.cat(pictures), columns=8)

    def export(self, folder: Path) -> None:
        """Write the UNet as a diffusers component."""
        self.unet.save_pretrained(folder)


@torch.no_grad()
def widened(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """A copy for latents of more channels: the first ones are denoised as before, the new ones not yet."""
    old = unet.config.in_channels
    wide = UNet2DConditionModel.from_config(
        {**unet.config, "in_channels": channels, "out_channels": channels}
    )
    weights = wide.state_dict()
    for name, value in unet.state_dict().items():
        if weights[name].shape == value.shape:
            weights[name].copy_(value)
    for conv in (wide.conv_in, wide.conv_out):
        torch.nn.init.zeros_(conv.weight)
    wide.conv_in.weight[:, :old] = unet.conv_in.weight
    wide.conv_out.weight[:old] = unet.conv_out.weight
    torch.nn.init.zeros_(wide.conv_out.bias)
    wide.conv_out.bias[:old] = unet.conv_out.bias
    return wide


def paint_pixels(painter: DiffusionPainter, words: str, seeds: Seeds) -> Tensor:
    """Native pictures [n c h w] in [-1, 1] for one prompt, at the defaults of the painter's card."""
    brief = Brief(prompt=words, seed=seeds.seeds[0], native=True).settled(painter.card)
    conditioning = painter.condition(brief)
    *_, last = painter.steps(brief, conditioning, painter.begin(brief, conditioning, seeds))
    return painter.finish(last)


def _encoded(codec: Codec, pictures: Tensor) -> Tensor:
    return torch.cat([codec.encode(to_unit(part)) for part in torch.split(pictures, 32)])
