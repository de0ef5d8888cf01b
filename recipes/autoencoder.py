"""The shipped autoencoder: `python recipes/autoencoder.py --data stickers --run runs/autoencoder`.

Data: `danqing data stickers --known`, without the held-out pairs. 4,000 steps of 16 crops.
"""

from __future__ import annotations

from diffusers import AutoencoderKL

from common import arguments, read, say
from danqing.families.stable_diffusion import AUTOENCODERS
from danqing.training.autoencoder import AutoencoderObjective, quiet_start
from danqing.training.trainer import Trainer, TrainOptions

if __name__ == "__main__":
    asked = arguments(__doc__)
    seen, unseen = read(asked.data)
    objective = AutoencoderObjective(quiet_start(AutoencoderKL(**AUTOENCODERS["sticker"])), seen, unseen)
    options = TrainOptions(steps=asked.steps or 4000, batch=16, lr=1.5e-3, weight_decay=0.0, ema=0.998)
    Trainer(objective, options, asked.run).train(watch=say)
    objective.eval().export(asked.run / "vae")
