"""Guidance by a gradient: a picture is moved to where a loss is low, whatever the loss measures.

Classifier guidance (Dhariwal and Nichol, arXiv 2105.05233) with CLIP for the classifier, as in Disco
Diffusion. Another code path than `guidance`: that is algebra on predictions, this differentiates through the
network and the VAE. It guides any denoiser, with any sampler.

Where the original is wrong, this is right:
- the gradient is not taken through the input of its range loss, so that loss does nothing; here every loss
  sees the same picture, and the gradient goes all the way to x;
- its gradient is clamped over a whole batch; here each picture's is clamped by itself;
- the asin of its distance has an infinite gradient between opposite vectors; here it is 0.
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
"""(pixels [n p h w], level) -> losses [n] to add up; made one by one, so that one graph is held at a time."""


def spherical_distance(u: Tensor, v: Tensor) -> Tensor:
    """Half the squared angle between vectors [... d] of length 1, [...].

    It is 2 asin(|u - v| / 2)^2 (Disco Diffusion), with the angle from both |u - v| and |u + v|: exact for any
    angle, and with a finite gradient, 0, where they are equal and where they are opposite.
    """
    return 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1)).square()


def total_variation(pixels: Tensor) -> Tensor:
    """The mean squared difference to the pixel on the right, and to the one below; 0 at the edges: [n]."""
    across, down = pixels.diff(dim=-1).square(), pixels.diff(dim=-2).square()
    return (across.sum(dim=(1, 2, 3)) + down.sum(dim=(1, 2, 3))) / pixels[0].numel()


def range_loss(pixels: Tensor) -> Tensor:
    """The mean squared distance from [-1, 1], [n]."""
    return (pixels - pixels.clamp(-1, 1)).square().mean(dim=(1, 2, 3))


def saturation_loss(pixels: Tensor) -> Tensor:
    """The mean distance from [-1, 1], [n]."""
    return (pixels - pixels.clamp(-1, 1)).abs().mean(dim=(1, 2, 3))


def rms(each: Tensor) -> Tensor:
    """The root mean square of each picture [n c h w]: [n 1 1 1]."""
    return each.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def limit_rms(gradient: Tensor, most: float) -> Tensor:
    """Gradients [n c h w], each scaled down where its root mean square is above `most`."""
    size = rms(gradient)
    return gradient * torch.where(size > most, most / size, torch.ones_like(size))


def condition_score(x0: Tensor, gradient: Tensor, level: Level) -> Tensor:
    """X0 [n c h w] under a log-likelihood with gradient [n c h w] in x, for alpha > 0.

    Algorithm 2 of arXiv 2105.05233 subtracts sigma times the gradient from the noise, so alpha times the
    x0 grows by sigma^2 times the gradient.
    """
    return x0 + level.sigma**2 / level.alpha * gradient


@dataclass(frozen=True)
class GradientGuidance:
    """A denoiser whose x0 is moved down the gradient of losses. A sampler calls it as a denoiser.

    denoise: the denoiser that is guided.
    decode: state [n c h w] -> pixels, differentiable.
    losses: what the pictures are guided by.
    scale: what all losses are multiplied with.
    clamp: the largest root mean square of a gradient; None means any.
    reach: the largest root mean square by which one step may move x0. Where there is next to
        no signal and steps are few, the formula alone would throw the estimate out of all bounds.
    threshold: applied to x0 at the end. Inside `denoise`, clipped values would get no
        gradient.
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
        """X0 [n c h w], moved down the losses; a gradient that is not finite is 0."""
        x = x.detach().requires_grad_()
        denoised, predicted_variance = self.denoise(x, level)
        x0 = denoised.detach()
        if level.alpha > 0:  # pure noise says nothing of a picture
            moved = condition_score(x0, self.gradient(x, denoised, level), level) - x0
            x0 = x0 + limit_rms(moved, self.reach)
        x0 = x0 if self.threshold is None else self.threshold(x0)
        return DenoiserOutput(x0, None if predicted_variance is None else predicted_variance.detach())

    def gradient(self, x: Tensor, x0: Tensor, level: Level) -> Tensor:
        """Minus the gradient of all losses in x [n c h w], clamped.

        x0: [n c h w], computed from x so that gradients flow back to x.

        The losses see x0 sigma + x (1 - sigma): the estimate where there is noise, and x itself where
        there is none.
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
    """X [n c h w] with one half mirrored onto the other.

    across: the left half onto the right.
    down: the upper half onto the lower.
    """
    for mirrors, dim in ((across, -1), (down, -2)):
        if mirrors:
            half = x.shape[dim] // 2
            kept = x.narrow(dim, 0, x.shape[dim] - half)  # with the middle of an odd side
            x = torch.cat([kept, x.narrow(dim, 0, half).flip(dim)], dim=dim)
    return x
