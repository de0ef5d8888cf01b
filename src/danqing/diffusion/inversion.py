"""DDIM run backwards: from a picture to the noise that paints it (arXiv 2010.02502 section 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from danqing.core.errors import NotFinite
from danqing.core.painter import Conditioning
from danqing.diffusion.guidance import Guidance, guide
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
    """Latents [n c h w] at the last of `levels` -> the noise at the first, from which DDIM paints them.

    conditioning: for n pictures; the guidance is 1.
    levels: noisiest first, as from `Schedule.levels`.
    corrections: how often each step is corrected. A correction paints one step forward from where the step
        back ended and moves by what was missed; it costs one more network call and brings the way back
        closer.

    A step back calls the network with the x it starts from and the time at which it ends, as diffusers'
    `DDIMInverseScheduler` does.

    Raises:
        NotFinite: the network gave NaN or infinite values.
    """
    network_outputs = guide(painter.network, replace(conditioning, negative=None), Guidance(1.0))

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
    """X [n c h w] at `now` -> x at the noisier `then`."""
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
