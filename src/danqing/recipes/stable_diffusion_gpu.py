"""Stable Diffusion on one data-centre GPU: all things, nine styles, and scenes composed of them.

Data: `danqing data stickers all`, then `danqing data scenes all scenes`, without the held-out pairs. The same
network as the small recipe's, since the weights must fit in 64 MB and paint in a second on a laptop; sixteen
times as many pictures per step, and many more steps. Needs the VAE and the CLIP of the other recipes, or
`--further`.

It has not been run to its end on a GPU yet, only a step on a CPU.
"""

from __future__ import annotations

from pathlib import Path

from danqing.recipes._recipe import TrainRequest, recipe
from danqing.recipes.stable_diffusion import train_unet
from danqing.training.trainer import TrainOptions

PACE = TrainOptions(
    steps=20_000, batch=512, lr=1e-3, warmup=500, ema=0.9998, save_every=1000, sheet_every=2000
)


@recipe("stable_diffusion_gpu", further=True)
def stable_diffusion_gpu(request: TrainRequest) -> Path:
    """Train the UNet; writes `unet`, a diffusers component."""
    return train_unet(request, PACE)
