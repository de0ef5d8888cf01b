"""DDIM inversion: finds the noise from which DDIM paints a picture (arXiv 2010.02502 section 4.3)."""

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
    """Find the x [n c h w] at the first of `levels` from which DDIM paints `latents` at the last.

    latents: [n c h w].
    conditioning: for n pictures; the guidance is 1.
    levels: the noise levels, noisiest first, as from `Schedule.levels`.
    corrections: how often each inverse step is corrected. A correction runs the DDIM step from the result and
        shifts the result by the error. Each costs one network call and makes the inversion more exact.

    An inverse step calls the network with the x at its start and the time at its end, as diffusers'
    `DDIMInverseScheduler` does.

    Raises:
        NotFinite: the output of the network is NaN or infinite.
    """
    network_outputs = guide(painter.network, replace(conditioning, negative=None), Guidance(1.0))

    def output(x: Tensor, level: Level) -> Tensor:
        return painter.variance.split_output(network_outputs(x, level), x.shape[1])[0]

    x = latents
    with torch.no_grad():
        for level, noisier_level in pairwise(reversed(levels)):
            x = _back(painter.prediction, output, x, level, noisier_level, corrections)
            if not x.isfinite().all():
                raise NotFinite(
                    f"inverting at t = {noisier_level.t:.0f} gave NaN or infinite values: check the weights"
                )
    return x


def _back(
    prediction: Prediction, output: Output, x: Tensor, level: Level, noisier_level: Level, corrections: int
) -> Tensor:
    """One inverse step, from x [n c h w] at `level` to x at `noisier_level`."""
    network_output = output(x, noisier_level)
    if level.sigma == 0 and prediction is Prediction.SAMPLE:  # x has no noise to estimate
        x0, noise = x, (x - network_output) / noisier_level.sigma
    else:
        x0 = prediction.x0(x, network_output, level.alpha, level.sigma)
        noise = prediction.noise(x, network_output, level.alpha, level.sigma)
    there = noisier_level.alpha * x0 + noisier_level.sigma * noise
    for _ in range(corrections):
        x0 = prediction.x0(there, output(there, noisier_level), noisier_level.alpha, noisier_level.sigma)
        there = there + x - step(there, x0, noisier_level, level)
    return there
