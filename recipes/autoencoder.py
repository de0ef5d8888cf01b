"""The shipped autoencoder: `python recipes/autoencoder.py --data stickers --run runs/autoencoder`.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs. 3,000 steps of 16 crops. The shipped weights were stopped at step 2,500, and learned from 240
things, when the vocabulary had that many.
"""

from __future__ import annotations

from diffusers import AutoencoderKL

from common import arguments, read, say
from danqing.families.stable_diffusion import AUTOENCODERS
from danqing.training.autoencoder import AutoencoderObjective, lossless_start
from danqing.training.trainer import Trainer, TrainOptions

if __name__ == "__main__":
    asked = arguments(__doc__)
    seen, unseen = read(asked.data)
    objective = AutoencoderObjective(lossless_start(AutoencoderKL(**AUTOENCODERS["sticker"])), seen, unseen)
    options = TrainOptions(steps=asked.steps or 3000, batch=16, lr=8e-4, weight_decay=0.0, ema=0.998)
    Trainer(objective, options, asked.run).train(watch=say)
    objective.eval().export(asked.run / "vae")
