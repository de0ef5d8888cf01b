"""The KL autoencoder of the shipped painter, 128 pixels, f8, 16 latent channels.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs. With `--further` the shipped weights get the preset's number of latent channels if they have
fewer.

The shipped weights: 2,500 steps with 8 latent channels on 240 things, the vocabulary of that time, then 9,000
steps more with 16.
"""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL

from danqing.families.stable_diffusion.painter import VAES
from danqing.recipes._recipe import TrainRequest, read, recipe
from danqing.training.trainer import TrainOptions
from danqing.training.vae import VAEObjective, lossless_start, widen
from danqing.weights.shipped import shipped_part


@recipe("autoencoder", further=True)
def autoencoder(request: TrainRequest) -> Path:
    """Train the KL autoencoder; writes `vae`, a diffusers component."""
    train_set, validation_set = read(request)
    objective = VAEObjective(_start(further=request.further), train_set, validation_set)
    options = TrainOptions(steps=request.steps or 12000, batch=16, lr=8e-4, weight_decay=0.0, ema=0.998)
    request.train(objective, options, request.run)
    objective.eval().export(request.run / "vae")
    return request.run / "vae"


def _start(*, further: bool) -> AutoencoderKL:
    if not further:
        return lossless_start(AutoencoderKL(**VAES["sticker"]))
    shipped = AutoencoderKL.from_pretrained(shipped_part("stickers") / "vae")
    channels = VAES["sticker"]["latent_channels"]
    return shipped if shipped.config.latent_channels == channels else widen(shipped, channels)
