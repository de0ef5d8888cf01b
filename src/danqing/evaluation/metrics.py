"""Distances between sets of pictures and between pictures, in closed form."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """FID (arXiv 1706.08500 eq. 6) between two sets of features [n d] of any network.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); the last trace is the sum of the roots of the eigenvalues
    of the symmetric matrix C1^(1/2) C2 C1^(1/2).

    Raises:
        ValueError: a set has fewer than two rows.
    """
    _check_sets(a, b)
    a, b = a.double(), b.double()
    first, second = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    middle = root @ second @ root
    cross = torch.linalg.eigvalsh((middle + middle.T) / 2).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross
    return float(distance.clamp(min=0))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """KID (arXiv 1801.01401 eq. 4): unbiased squared MMD under the kernel (x.y / d + 1)^3. May be below 0.

    Raises:
        ValueError: a set has fewer than two rows.
    """
    _check_sets(a, b)
    a, b = a.double(), b.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:
        gram, n = kernel(x, x), len(x)
        return (gram.sum() - gram.trace()) / (n * (n - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def psnr(made: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture [n], for values in [-1, 1] over all channels."""
    return 10 * torch.log10(4 / (made - truth).square().mean(dim=(1, 2, 3)).clamp(min=1e-12))


def ssim(made: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each picture [n] (Wang et al. 2004 eq. 13): an 11 x 11 Gaussian, sigma 1.5."""
    channels = made.shape[1]
    window = _gaussian(11, 1.5).to(made).expand(channels, 1, 11, 11)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x, window, groups=channels)

    mean_a, mean_b = blur(made), blur(truth)
    var_a, var_b = blur(made * made) - mean_a**2, blur(truth * truth) - mean_b**2
    covariance = blur(made * truth) - mean_a * mean_b
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2  # the range of values is 2
    score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    score = score / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return score.mean(dim=(1, 2, 3))


def _check_sets(a: Tensor, b: Tensor) -> None:
    if min(len(a), len(b)) < 2:
        raise ValueError(f"sets of {len(a)} and {len(b)} features: a distance needs at least two in each")


def _gaussian(size: int, sigma: float) -> Tensor:
    x = torch.arange(size) - (size - 1) / 2
    line = torch.exp(-(x**2) / (2 * sigma**2))
    line = line / line.sum()
    return line[:, None] * line[None, :]
