"""Guidance by a gradient: a picture is led to where a loss is low, whoever says what is low.

Classifier guidance (Dhariwal and Nichol, arXiv 2105.05233) with CLIP for the classifier, as in Disco
Diffusion. Another code path than `guidance`: that is algebra on predictions, this differentiates through the
network and the codec. It leads any denoiser, with any sampler.

Where the original is wrong this is right:
- its range loss is a function of what its gradient is not taken through, so it does nothing; here every
  loss sees the same picture, and the gradient goes all the way to x;
- its gradient is clamped over a whole batch; here each picture's by itself;
- the asin of its distance has an infinite gradient between opposite vectors; here it is 0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.diffusion.samplers import Answer
from danqing.diffusion.schedule import Level

Denoise = Callable[[Tensor, Level], Answer]
"""(x [n c h w], level) -> what is clean in it, differentiable in x."""

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


def clamped(gradient: Tensor, most: float) -> Tensor:
    """Gradients [n c h w], each made smaller where its root mean square is above `most`."""
    size = rms(gradient)
    return gradient * torch.where(size > most, most / size, torch.ones_like(size))


def condition_score(clean: Tensor, gradient: Tensor, level: Level) -> Tensor:
    """The clean estimate [n c h w] under a log-likelihood of gradient [n c h w] in x, for alpha > 0.

    2105.05233 algorithm 2 takes sigma gradient from the noise: so alpha clean grows by sigma^2 gradient.
    """
    return clean + level.sigma**2 / level.alpha * gradient


@dataclass(frozen=True)
class GradientGuidance:
    """A denoiser led down the losses of what it makes: what a sampler asks instead.

    decode: state [n c h w] -> pixels, differentiable. scale: what all losses are multiplied with. clamp: the
    largest root mean square of a gradient, None for any. reach: likewise of how far one step may move the
    clean estimate; where there is next to no signal, and steps are few, the formula alone would throw it out
    of all bounds. limit: what a clean estimate goes through after that; within the denoiser it would hide
    from the gradient what it cuts off.
    """

    denoise: Denoise
    decode: Callable[[Tensor], Tensor]
    losses: Losses
    scale: float = 1.0
    clamp: float | None = 0.05
    reach: float = math.inf
    limit: Callable[[Tensor], Tensor] | None = None

    @torch.enable_grad()
    def __call__(self, x: Tensor, level: Level) -> Answer:
        """What is clean in x [n c h w], moved down the losses. A gradient that is not finite counts as 0."""
        x = x.detach().requires_grad_()
        denoised, share = self.denoise(x, level)
        clean = denoised.detach()
        if level.alpha > 0:  # pure noise says nothing of a picture
            moved = condition_score(clean, self.gradient(x, denoised, level), level) - clean
            clean = clean + clamped(moved, self.reach)
        clean = clean if self.limit is None else self.limit(clean)
        return Answer(clean, None if share is None else share.detach())

    def gradient(self, x: Tensor, clean: Tensor, level: Level) -> Tensor:
        """Minus the gradient of all losses in x [n c h w], clamped, where `clean` was made of x.

        The losses see clean sigma + x (1 - sigma): the estimate where there is noise, x itself where not.
        """
        decoded = self.decode(level.sigma * clean + (1 - level.sigma) * x)
        pixels = decoded.detach().requires_grad_()
        pull = torch.zeros_like(pixels)
        for loss in self.losses(pixels, level):
            pull += torch.autograd.grad(loss.sum(), pixels)[0]
        (gradient,) = torch.autograd.grad(decoded, x, -self.scale * pull)
        gradient = _finite(gradient, level)
        return gradient if self.clamp is None else clamped(gradient, self.clamp)


def _finite(gradient: Tensor, level: Level) -> Tensor:
    sound = gradient.isfinite().flatten(1).all(dim=1)
    if not sound.all():
        warnings.warn(
            f"the guiding gradient at t = {level.t:.0f} was not finite: that step goes on without guidance",
            RuntimeWarning,
            stacklevel=2,
        )
    return torch.where(sound.view(-1, 1, 1, 1), gradient, 0.0)


def mirrored(x: Tensor, *, across: bool, down: bool) -> Tensor:
    """X [n c h w] with its left half mirrored onto the right (across), its upper onto the lower (down)."""
    for mirrors, dim in ((across, -1), (down, -2)):
        if mirrors:
            half = x.shape[dim] // 2
            kept = x.narrow(dim, 0, x.shape[dim] - half)  # with the middle of an odd side
            x = torch.cat([kept, x.narrow(dim, 0, half).flip(dim)], dim=dim)
    return x
