"""The losses of generators and discriminators, and the two gradient penalties.

Logits are positive for pictures that the discriminator takes for real.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean -log D(x) - log(1 - D(G(z))) with D = sigmoid of the logits (arXiv 1406.2661 eq. 1): scalar."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Mean -log D(G(z)): the loss that does not saturate (arXiv 1406.2661 section 3). Scalar."""
    return F.softplus(-fake).mean()


def squared_gradient(logits: Tensor, pixels: Tensor) -> Tensor:
    """R1: the squared norm of each logit's gradient in its picture, [n] (arXiv 1801.04406 eq. 9).

    pixels: [n c h w], must require gradients. The result can be differentiated again.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pixels, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def path_lengths(pixels: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """The length of J^T y, J being the Jacobian of a picture in its styles: [n] (arXiv 1912.04958 eq. 4).

    With y = noise / sqrt(h w), it is the root of the mean over rows of the squared norm of the gradient of
    <pixels, y>.

    ws: [n rows d], must require gradients.
    noise: standard normal, of the shape of pixels.
    """
    y = noise / math.sqrt(pixels.shape[-1] * pixels.shape[-2])
    (gradient,) = torch.autograd.grad((pixels * y).sum(), ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def spread(painted: Tensor, real: Tensor) -> float:
    """How much painted pictures [n c h w] vary, relative to real ones: about 1 is good, 0 is mode collapse.

    It is a ratio of variances; the mean squared distance of two pictures is twice the variance.
    """
    one, other = (pictures.var(dim=0, correction=0).mean() for pictures in (painted, real))
    return float(one / other.clamp(min=1e-12))
