"""The discrete VAE (arXiv 2102.12092 eq. 1): relaxed tokens, logit-Laplace pixels, KL to uniform.

loss = -ln p(x | z) + square * (x - mean)^2 + kl * KL(q(z | x) || uniform) - usage * H(mean of q), with means
over elements of the first two and over positions of KL. H, the entropy of how often each token is used in the
batch, speaks for tokens that nobody uses; the squared error weighs flat colours that are wrong. z is a
Gumbel-softmax sample (arXiv 1611.01144) whose temperature falls; kl grows from 0.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor

from danqing.data.dataset import CaptionedImages, to_unit
from danqing.nets.discrete_vae import (
    DiscreteVAE,
    divergence,
    gumbel,
    gumbel_softmax,
    logit_laplace,
    map_pixels,
)
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of
from danqing.weights.pretrained import write_module

_FEW = 0.05  # of the vocabulary: a perplexity below this share is reported


@dataclass(frozen=True)
class DiscreteVAEOptions:
    """span: steps over which the temperature falls from `tau` to `tau_end`, and over which kl grows.

    finest: least ln b. A byte is about 0.035 wide in logits at white, ln 0.035 = -3.4; without a floor a
    white ground that is always right would make its density, and its share of the loss, grow without end.
    reach: how many pixels a picture is moved at most.
    """

    span: int = 2000
    tau: float = 1.0
    tau_end: float = 1 / 16
    kl: float = 0.0
    usage: float = 0.02
    square: float = 20.0
    finest: float = -2.0
    reach: int = 4


class DiscreteVAEObjective(Objective):
    """Trains a `DiscreteVAE` on whole pictures, mirrored half of the time and moved a little.

    pictures: to learn from, at any size; they are reduced to `side`. probe: never trained on, for the sheet.
    """

    done: Tensor

    row_wise = False  # its loss couples the rows of a batch

    def __init__(
        self,
        vae: DiscreteVAE,
        pictures: CaptionedImages,
        probe: CaptionedImages,
        side: int,
        options: DiscreteVAEOptions,
    ) -> None:
        super().__init__()
        self.vae = vae
        channels = vae.config.channels
        self._pixels, self._probe = (resize_pictures(each, side, channels) for each in (pictures, probe))
        self._options = options
        self.register_buffer("done", torch.zeros((), dtype=torch.long))  # steps, for the schedules

    def batch(self, size: int, rng: Generator) -> Batch:
        """Pictures [n c h w] in [-1, 1], and Gumbel noise for their tokens."""
        picks = torch.randint(len(self._pixels), (size,), generator=rng)
        mirrored = torch.rand(size, 1, 1, 1, generator=rng) < 0.5
        pixels = self._pixels[picks]
        pixels = _move(torch.where(mirrored, pixels.flip(-1), pixels), self._options.reach, rng)
        side = pixels.shape[-1] // self.vae.config.factor
        return {"pixels": pixels, "noise": gumbel((size, self.vae.config.vocab, side, side), rng)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the module's docstring, its terms, and how many tokens are in use (perplexity)."""
        options = self._options
        pixels = batch["pixels"]
        along = (self.done / max(1, options.span)).clamp(max=1)
        logits = self.vae.logits(pixels)
        tau = options.tau * (options.tau_end / options.tau) ** along
        mean, log_scale = self.vae.parameters_of(gumbel_softmax(logits, batch["noise"], tau))
        scale = options.finest + F.softplus(log_scale - options.finest)
        nll = logit_laplace(map_pixels(pixels), mean, scale).mean()
        kl = divergence(logits).mean()
        used = entropy(logits.softmax(dim=1).mean(dim=(0, 2, 3)))
        square = (torch.sigmoid(mean) - map_pixels(pixels)).square().mean()
        loss = nll + options.square * square + options.kl * along * kl - options.usage * used
        if self.training:
            self.done += 1
        values = {
            "nll": nll,
            "square": square,
            "kl": kl,
            "perplexity": perplexity(logits.argmax(dim=1), logits.shape[1]),
        }
        return {"loss": loss, **{name: value.detach() for name, value in values.items()}}

    @torch.no_grad()
    def measure(self) -> tuple[float, float]:
        """Of the probe: PSNR of colours over white in dB (mean over pictures), perplexity of its tokens."""
        probe = self._probe.to(self.device)
        tokens = torch.cat([self.vae.tokens(part) for part in torch.split(probe, 32)])
        painted = torch.cat([self.vae.pictures(part) for part in torch.split(tokens, 32)])
        error = ((painted - probe)[:, :3] / 2).square().mean(dim=(1, 2, 3))
        return float(-10 * error.log10().mean()), float(perplexity(tokens, self.vae.config.vocab))

    def sheet(self) -> Image.Image:
        """Rows of originals over rows of reconstructions. Warns of a codebook that is hardly used."""
        _, used = self.measure()
        if used < _FEW * self.vae.config.vocab:
            warnings.warn(
                f"of {self.vae.config.vocab} tokens only {used:.0f} are in use: raise usage, or start anew "
                "from codebook_start",
                stacklevel=2,
            )
        pictures = self._probe[:16].to(self.device)
        painted = self.vae.pictures(self.vae.tokens(pictures))
        pairs = zip(torch.split(pictures, 8), torch.split(painted, 8), strict=True)
        return sheet_of(torch.cat([rows for pair in pairs for rows in pair]), columns=8)

    def export(self, folder: Path) -> None:
        """Write the weights by themselves; `families.dalle1.save` writes them as part of a painter."""
        write_module(self.vae, self.vae.to_config(), folder, "model", torch.float32)


def resize_pictures(pictures: CaptionedImages, side: int, channels: int) -> Tensor:
    """The pictures [n channels side side] in [-1, 1], by the mean over areas."""
    return F.interpolate(to_unit(pictures.pictures[:, :channels]), (side, side), mode="area")


def entropy(shares: Tensor) -> Tensor:
    """-sum p ln p of shares [k] that sum to 1, in nats."""
    return -(shares * shares.clamp(min=1e-12).log()).sum()  # where a share is 0 its gradient is finite


def perplexity(tokens: Tensor, vocab: int) -> Tensor:
    """Exp of the entropy of how often each token occurs: as many tokens, equally used, say as much."""
    counts = torch.bincount(tokens.flatten(), minlength=vocab).float()
    return entropy(counts / counts.sum()).exp()


def _move(pixels: Tensor, reach: int, rng: Generator) -> Tensor:
    """The pictures moved together by up to `reach` pixels, their edges repeated."""
    if reach == 0:
        return pixels
    side = pixels.shape[-1]
    y, x = torch.randint(2 * reach + 1, (2,), generator=rng).tolist()
    return F.pad(pixels, (reach,) * 4, mode="replicate")[:, :, y : y + side, x : x + side]
