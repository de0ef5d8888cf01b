"""The one loss of all diffusion training: how wrong the network is about a noised picture."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from danqing.core.painter import Conditioning
from danqing.diffusion.painter import DiffusionPainter


def denoising_error(
    painter: DiffusionPainter,
    latents: Tensor,
    words: Conditioning,
    t: Tensor,
    noise: Tensor,
    gamma: float | None = None,
) -> Tensor:
    """The mean squared error of each picture's prediction, [n] (DDPM, arXiv 2006.11239 eq. 14).

    latents, noise: [n c h w]. words: for n pictures. t: int64 [n] in [0, T). gamma: min-SNR weights (arXiv
    2303.09556), None for none.
    """
    alpha, sigma = (part.view(-1, 1, 1, 1) for part in painter.schedule.at(t))
    output = painter.network(alpha * latents + sigma * noise, t, words)
    target = painter.prediction.target(latents, noise, alpha, sigma)
    error = (output.float() - target).square().mean(dim=(1, 2, 3))
    if gamma is None:
        return error
    return error * painter.prediction.min_snr_weight((alpha / sigma).square().flatten(), gamma)


def stratified_times(count: int, length: int, rng: Generator) -> Tensor:
    """Uniform times int64 [count] in [0, length), one from each of `count` equal parts, in random order.

    Each is uniform by itself, so the expected loss is the same; a small batch of them varies less.
    """
    parts = torch.randperm(count, generator=rng)
    u = (parts + torch.rand(count, generator=rng)) / count
    return (u * length).long().clamp(max=length - 1)
