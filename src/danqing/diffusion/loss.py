"""The loss of all diffusion training: the error of the network's prediction for a noisy picture."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from danqing.core.painter import Conditioning
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.variance import log_between

_HALF_BIN = 1 / 255  # half the distance of 256 levels in [-1, 1]


def denoising_error(
    painter: DiffusionPainter,
    latents: Tensor,
    conditioning: Conditioning,
    t: Tensor,
    noise: Tensor,
    gamma: float | None = None,
) -> Tensor:
    """The mean squared error of the prediction for each picture, [n] (DDPM, arXiv 2006.11239 eq. 14).

    latents, noise: [n c h w].
    conditioning: for n pictures.
    t: times int64 [n] in [0, T).
    gamma: the parameter of min-SNR weights (arXiv 2303.09556); None for no weights.

    If the network learns the variance, T/1000 of the variational bound is added; its gradient reaches the
    variance only. This is L_hybrid of improved DDPM (arXiv 2102.09672 section 3.1).
    """
    alpha, sigma = (part.view(-1, 1, 1, 1) for part in painter.schedule.at(t))
    noisy = alpha * latents + sigma * noise
    network_output = painter.network(noisy, t, conditioning).float()
    output, predicted_variance = painter.variance.split_output(network_output, latents.shape[1])
    target = painter.prediction.target(latents, noise, alpha, sigma)
    error = (output - target).square().mean(dim=(1, 2, 3))
    if gamma is not None:
        error = error * painter.prediction.min_snr_weight((alpha / sigma).square().flatten(), gamma)
    if predicted_variance is None or predicted_variance.ndim == 0:
        return error
    x0 = painter.prediction.x0(noisy, output.detach(), alpha, sigma)
    bound = variational_bound(painter.schedule, x0, predicted_variance, latents, t)
    return error + len(painter.schedule) / 1000 * bound


def variational_bound(
    schedule: Schedule, x0: Tensor, predicted_variance: Tensor, latents: Tensor, t: Tensor
) -> Tensor:
    """One term of the variational bound in bits per value, [n] (arXiv 2006.11239 eq. 5; 2102.09672 eq. 15).

    It is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), and at t = 0 it is -log p(x_0 | x_1) for pictures of
    256 levels.

    x0: the estimate of `latents` [n c h w].
    predicted_variance: as in `variance.Variance.split_output` [n c h w].
    t: times int64 [n].
    """
    table = schedule.alpha_bar.to(t.device)
    alpha_bar, alpha_bar_prev = (
        table[t],
        torch.where(t > 0, table[(t - 1).clamp(min=0)], torch.ones_like(table[t])),
    )
    beta = 1 - alpha_bar / alpha_bar_prev
    pull = alpha_bar_prev.sqrt() * beta / (1 - alpha_bar)  # of x_0 in the posterior mean, 2006.11239 eq. 7
    high, low = beta.log(), (beta * (1 - alpha_bar_prev) / (1 - alpha_bar)).log()
    first = torch.full_like(low, math.log((1 - table[0]) / (1 - table[1]) * (1 - table[1] / table[0])))
    low = torch.where(t > 0, low, first)  # beta-tilde is 0 at t = 0: use that of t = 1, as 2102.09672
    pull, low, high = (value.float().view(-1, 1, 1, 1) for value in (pull, low, high))
    missed, spread = pull * (latents - x0), log_between(predicted_variance, low, high)
    divergence = 0.5 * (spread - low + torch.expm1(low - spread) + missed.square() * (-spread).exp())
    surprise = -_log_mass_of_bin(latents, x0, spread)
    nats = torch.where((t > 0).view(-1, 1, 1, 1), divergence, surprise)
    return nats.mean(dim=(1, 2, 3)) / math.log(2)


def _log_mass_of_bin(latents: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The log probability of each value's level (1 of 256) under a Gaussian (arXiv 2006.11239 eq. 13)."""
    precision = (-log_variance / 2).exp()
    above = torch.special.ndtr((latents - mean + _HALF_BIN) * precision)
    below = torch.special.ndtr((latents - mean - _HALF_BIN) * precision)
    above = torch.where(latents > 1 - _HALF_BIN, 1.0, above)
    below = torch.where(latents < _HALF_BIN - 1, 0.0, below)
    return (above - below).clamp(min=1e-12).log()


def stratified_times(count: int, length: int, rng: Generator) -> Tensor:
    """Uniform times int64 [count] in [0, length), one from each of `count` equal parts, in random order.

    Each time is uniform by itself, so the expected loss is the same, but it varies less in a small batch.
    """
    parts = torch.randperm(count, generator=rng)
    u = (parts + torch.rand(count, generator=rng)) / count
    return (u * length).long().clamp(max=length - 1)
