"""Guidance by the gradient of any losses on the estimated picture.

Classifier guidance (Dhariwal and Nichol, arXiv 2105.05233) with CLIP as the classifier, as in Disco
Diffusion. `guidance` combines predictions; this module differentiates through the network and the VAE. It
guides any denoiser with any sampler.

It corrects three errors of Disco Diffusion:
- there, no gradient flows through the input of the range loss, so that loss has no effect; here all losses
  get the same picture, and the gradient flows back to x;
- there, the gradient is clamped over a whole batch; here it is clamped for each picture;
- there, the asin of the distance has an infinite gradient between opposite vectors; here it is 0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.diffusion.samplers import DenoiserOutput
from danqing.diffusion.schedule import Level

Denoise = Callable[[Tensor, Level], DenoiserOutput]
"""(x [n c h w], level) -> x0, differentiable in x."""

Losses = Callable[[Tensor, Level], Iterable[Tensor]]
"""(pixels [n p h w], level) -> losses [n] to add; an iterator, so that only one graph is in memory."""


def spherical_distance(u: Tensor, v: Tensor) -> Tensor:
    """Half the squared angle between unit vectors [... d], in radians^2, [...].

    It is 2 asin(|u - v| / 2)^2 (Disco Diffusion). The angle is computed from both |u - v| and |u + v|, so it
    is exact everywhere, and its gradient is 0 where the vectors are equal or opposite.
    """
    return 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1)).square()


def total_variation(pixels: Tensor) -> Tensor:
    """The mean squared difference to the pixel on the right plus that to the one below, 0 at edges: [n]."""
    across, down = pixels.diff(dim=-1).square(), pixels.diff(dim=-2).square()
    return (across.sum(dim=(1, 2, 3)) + down.sum(dim=(1, 2, 3))) / pixels[0].numel()


def range_loss(pixels: Tensor) -> Tensor:
    """The mean squared distance of pixels from the interval [-1, 1], [n]."""
    return (pixels - pixels.clamp(-1, 1)).square().mean(dim=(1, 2, 3))


def saturation_loss(pixels: Tensor) -> Tensor:
    """The mean distance of pixels from the interval [-1, 1], [n]."""
    return (pixels - pixels.clamp(-1, 1)).abs().mean(dim=(1, 2, 3))


def rms(each: Tensor) -> Tensor:
    """The root mean square of each picture [n c h w]: [n 1 1 1]."""
    return each.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def limit_rms(gradient: Tensor, most: float) -> Tensor:
    """Gradients [n c h w], each scaled down to a root mean square of at most `most`."""
    size = rms(gradient)
    return gradient * torch.where(size > most, most / size, torch.ones_like(size))


def condition_score(x0: Tensor, gradient: Tensor, level: Level) -> Tensor:
    """Move x0 [n c h w] by the gradient [n c h w] of a log-likelihood with respect to x, for alpha > 0.

    Algorithm 2 of arXiv 2105.05233 subtracts sigma times the gradient from the noise, so alpha x0 grows by
    sigma^2 times the gradient.
    """
    return x0 + level.sigma**2 / level.alpha * gradient


@dataclass(frozen=True)
class GradientGuidance:
    """A denoiser that moves x0 against the gradient of losses. A sampler calls it as a denoiser.

    denoise: the denoiser to guide.
    decode: state [n c h w] -> pixels, differentiable.
    losses: the losses on pixels.
    scale: the factor of all losses.
    clamp: the largest root mean square of a gradient; None sets no limit.
    reach: the largest root mean square by which one step moves x0. With very little signal and few steps,
        the formula alone would move the estimate much too far.
    threshold: applied to x0 at the end. Inside `denoise`, clipped values would get no gradient.
    """

    denoise: Denoise
    decode: Callable[[Tensor], Tensor]
    losses: Losses
    scale: float = 1.0
    clamp: float | None = 0.05
    reach: float = math.inf
    threshold: Callable[[Tensor], Tensor] | None = None

    @torch.enable_grad()
    def __call__(self, x: Tensor, level: Level) -> DenoiserOutput:
        """The guided x0 [n c h w]; a gradient that is not finite counts as 0."""
        x = x.detach().requires_grad_()
        denoised, predicted_variance = self.denoise(x, level)
        x0 = denoised.detach()
        if level.alpha > 0:  # pure noise has no information on the picture
            moved = condition_score(x0, self.gradient(x, denoised, level), level) - x0
            x0 = x0 + limit_rms(moved, self.reach)
        x0 = x0 if self.threshold is None else self.threshold(x0)
        return DenoiserOutput(x0, None if predicted_variance is None else predicted_variance.detach())

    def gradient(self, x: Tensor, x0: Tensor, level: Level) -> Tensor:
        """The negative gradient of all losses with respect to x [n c h w], clamped.

        x0: [n c h w], computed from x so that gradients flow back to x.

        The losses get x0 sigma + x (1 - sigma): the estimate at high noise, and x itself without noise.
        """
        decoded = self.decode(level.sigma * x0 + (1 - level.sigma) * x)
        pixels = decoded.detach().requires_grad_()
        pull = torch.zeros_like(pixels)
        for loss in self.losses(pixels, level):
            pull += torch.autograd.grad(loss.sum(), pixels)[0]
        (gradient,) = torch.autograd.grad(decoded, x, -self.scale * pull)
        gradient = _finite(gradient, level)
        return gradient if self.clamp is None else limit_rms(gradient, self.clamp)


def _finite(gradient: Tensor, level: Level) -> Tensor:
    sound = gradient.isfinite().flatten(1).all(dim=1)
    if not sound.all():
        warnings.warn(
            f"the guiding gradient at t = {level.t:.0f} was not finite: that step goes on without guidance",
            RuntimeWarning,
            stacklevel=2,
        )
    return torch.where(sound.view(-1, 1, 1, 1), gradient, 0.0)


def mirror(x: Tensor, *, across: bool, down: bool) -> Tensor:
    """The state x [n c h w] with one half mirrored onto the other.

    across: the left half onto the right.
    down: the upper half onto the lower.
    """
    for mirrors, dim in ((across, -1), (down, -2)):
        if mirrors:
            half = x.shape[dim] // 2
            kept = x.narrow(dim, 0, x.shape[dim] - half)  # includes the middle row or column of an odd side
            x = torch.cat([kept, x.narrow(dim, 0, half).flip(dim)], dim=dim)
    return x
