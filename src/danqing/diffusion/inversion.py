"""DDIM run backwards: from a picture to the noise that paints it (arXiv 2010.02502 section 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from danqing.core.errors import NotFinite
from danqing.core.painter import Conditioning
from danqing.diffusion.guidance import Guidance, guided
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.samplers import step
from danqing.diffusion.schedule import Level

Output = Callable[[Tensor, Level], Tensor]


def invert(
    painter: DiffusionPainter,
    latents: Tensor,
    conditioning: Conditioning,
    levels: Sequence[Level],
    corrections: int = 0,
) -> Tensor:
    """Latents [n c h w] at the last of `levels` -> what DDIM paints them from, starting at the first.

    words: for n pictures; their guidance is 1. levels: noisiest first, as of `Schedule.levels`. A step back
    asks the network where it starts, about the time where it leads, as diffusers' `DDIMInverseScheduler`
    does. mend: how often to ask again where it led, and to move by what DDIM then misses: each costs a
    question more, and the way back comes closer.

    Raises:
        NotFinite: the network gave NaN or infinite values.
    """
    network_outputs = guided(painter.network, replace(conditioning, negative=None), Guidance(1.0))

    def output(x: Tensor, level: Level) -> Tensor:
        return painter.variance.halves(network_outputs(x, level), x.shape[1])[0]

    x = latents
    with torch.no_grad():
        for now, then in pairwise(reversed(levels)):
            x = _back(painter.prediction, output, x, now, then, corrections)
            if not x.isfinite().all():
                raise NotFinite(
                    f"inverting at t = {then.t:.0f} gave NaN or infinite values: check the weights"
                )
    return x


def _back(
    prediction: Prediction, output: Output, x: Tensor, now: Level, then: Level, corrections: int
) -> Tensor:
    """From `now` to the noisier `then`."""
    network_output = output(x, then)
    if now.sigma == 0 and prediction is Prediction.SAMPLE:  # which says nothing of the noise in x
        clean, noise = x, (x - network_output) / then.sigma
    else:
        clean = prediction.clean(x, network_output, now.alpha, now.sigma)
        noise = prediction.noise(x, network_output, now.alpha, now.sigma)
    there = then.alpha * clean + then.sigma * noise
    for _ in range(corrections):
        clean = prediction.clean(there, output(there, then), then.alpha, then.sigma)
        there = there + x - step(there, clean, then, now)
    return there
