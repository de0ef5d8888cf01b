"""The discrete VAE (arXiv 2102.12092 eq. 1): relaxed tokens, logit-Laplace pixels, KL to uniform.

loss = -ln p(x | z) + square * (x - mean)^2 + kl * KL(q(z | x) || uniform) - usage * H(mean of q), with means
over elements of the first two and over positions of KL. H is the entropy of how often each token is used in
the batch; it rewards the use of rare tokens. The squared error penalises wrong flat colours. z is a
Gumbel-softmax sample (arXiv 1611.01144) whose temperature falls during training; kl grows from 0.
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

_FEW = 0.05  # share of the vocabulary; a perplexity below it is reported


@dataclass(frozen=True)
class DiscreteVAEOptions:
    """How to train a discrete VAE.

    span: steps over which the temperature falls, and over which kl grows.
    tau: temperature of the Gumbel-softmax in the first step.
    tau_end: temperature from step `span` on.
    kl: final weight of the KL divergence.
    usage: weight of the entropy of token use.
    square: weight of the squared error.
    finest: least ln b of the logit-Laplace distribution. A byte is about 0.035 wide in logits at white, and
        ln 0.035 = -3.4; without a floor the density of an easy white background, and its share of the loss,
        would grow without end.
    reach: largest random shift of a picture, in pixels.
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
    """Trains a `DiscreteVAE` on whole pictures, mirrored half of the time and shifted a little.

    pictures: training pictures at any size; they are reduced to `side`.
    probe: pictures that are not trained on, for the sample sheet.
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
        # number of steps done, for the schedules of temperature and kl
        self.register_buffer("done", torch.zeros((), dtype=torch.long))

    def batch(self, size: int, rng: Generator) -> Batch:
        """Pictures [n c h w] in [-1, 1], and Gumbel noise for their tokens."""
        picks = torch.randint(len(self._pixels), (size,), generator=rng)
        mirrored = torch.rand(size, 1, 1, 1, generator=rng) < 0.5
        pixels = self._pixels[picks]
        pixels = _move(torch.where(mirrored, pixels.flip(-1), pixels), self._options.reach, rng)
        side = pixels.shape[-1] // self.vae.config.factor
        return {"pixels": pixels, "noise": gumbel((size, self.vae.config.vocab, side, side), rng)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the module's docstring, its terms, and the perplexity of the tokens."""
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
        """PSNR of colours over white in dB, mean over the probe pictures, and perplexity of their tokens."""
        probe = self._probe.to(self.device)
        tokens = torch.cat([self.vae.tokens(part) for part in torch.split(probe, 32)])
        painted = torch.cat([self.vae.pictures(part) for part in torch.split(tokens, 32)])
        error = ((painted - probe)[:, :3] / 2).square().mean(dim=(1, 2, 3))
        return float(-10 * error.log10().mean()), float(perplexity(tokens, self.vae.config.vocab))

    def sheet(self) -> Image.Image:
        """Rows of originals over rows of reconstructions. Warns if few tokens of the codebook are used."""
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
        """Write the weights alone; `families.dalle1.save` writes them as part of a painter."""
        write_module(self.vae, self.vae.to_config(), folder, "model", torch.float32)


def resize_pictures(pictures: CaptionedImages, side: int, channels: int) -> Tensor:
    """The pictures [n channels side side] in [-1, 1], resized by area averaging."""
    return F.interpolate(to_unit(pictures.pictures[:, :channels]), (side, side), mode="area")


def entropy(shares: Tensor) -> Tensor:
    """The entropy -sum p ln p of probabilities [k] that sum to 1, in nats."""
    # the clamp keeps the gradient finite where a share is 0
    return -(shares * shares.clamp(min=1e-12).log()).sum()


def perplexity(tokens: Tensor, vocab: int) -> Tensor:
    """Exp of the entropy of token frequencies: the number of equally used tokens with the same entropy."""
    counts = torch.bincount(tokens.flatten(), minlength=vocab).float()
    return entropy(counts / counts.sum()).exp()


def _move(pixels: Tensor, reach: int, rng: Generator) -> Tensor:
    """Shift all pictures by the same random offset of up to `reach` pixels; edges are repeated."""
    if reach == 0:
        return pixels
    side = pixels.shape[-1]
    y, x = torch.randint(2 * reach + 1, (2,), generator=rng).tolist()
    return F.pad(pixels, (reach,) * 4, mode="replicate")[:, :, y : y + side, x : x + side]
