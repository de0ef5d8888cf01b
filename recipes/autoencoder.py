"""The shipped autoencoder: `python recipes/autoencoder.py --data stickers --run runs/autoencoder`.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs. With `--further` a new run starts from the shipped weights, given the preset's latent channels
where they have fewer.

The shipped weights: 2,500 steps with 8 latent channels, learned from 240 things when the vocabulary had that
many, then this recipe `--further` with 16.
"""

from __future__ import annotations

from argparse import Namespace

from diffusers import AutoencoderKL

from common import ZOO, arguments, read, say
from danqing.families.stable_diffusion import AUTOENCODERS
from danqing.training.autoencoder import AutoencoderObjective, lossless_start, widened
from danqing.training.trainer import Trainer, TrainOptions


def start(asked: Namespace) -> AutoencoderKL:
    """The weights a new run begins with."""
    if not asked.further:
        return lossless_start(AutoencoderKL(**AUTOENCODERS["sticker"]))
    shipped = AutoencoderKL.from_pretrained(ZOO / "stickers" / "vae")
    wanted = AUTOENCODERS["sticker"]["latent_channels"]
    return shipped if shipped.config.latent_channels == wanted else widened(shipped, wanted)


if __name__ == "__main__":
    asked = arguments(__doc__)
    seen, unseen = read(asked.data)
    objective = AutoencoderObjective(start(asked), seen, unseen)
    options = TrainOptions(steps=asked.steps or 12000, batch=16, lr=8e-4, weight_decay=0.0, ema=0.998)
    Trainer(objective, options, asked.run).train(watch=say)
    objective.eval().export(asked.run / "vae")
