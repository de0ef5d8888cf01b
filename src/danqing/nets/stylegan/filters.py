"""Changing the size of pictures without aliases: zeros between, a short filter, and leaving out.

Paper: Karras et al., arXiv 1912.04958, whose filter is [1, 3, 3, 1]; the operation is that of signal
processing (scipy.signal.upfirdn along rows, then columns).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BINOMIAL = (1.0, 3.0, 3.0, 1.0)


def upfirdn2d(
    x: Tensor, taps: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> Tensor:
    """[n c h w] with `up - 1` zeros after each pixel, padded, convolved with `taps`, every `down`-th kept.

    taps: [k], for rows and columns alike. pad: pixels of zeros left, right, above, below; what is negative
    is cut off. The result has (h up + pads - k) // down + 1 rows.
    """
    n, c, h, w = x.shape
    if up > 1:
        x = F.pad(x.view(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).view(n, c, h * up, w * up)
    kernel = taps.to(x).flip(0)  # convolution, not correlation
    # one group a channel: on a CPU thirty times as fast as folding channels into the batch
    square = torch.outer(kernel, kernel).expand(c, 1, -1, -1)
    return F.conv2d(F.pad(x, pad), square, stride=down, groups=c)


def binomial() -> Tensor:
    """[1, 3, 3, 1] / 8: its sum is 1, so a constant picture stays as it is."""
    return torch.tensor(BINOMIAL) / sum(BINOMIAL)


def double(x: Tensor) -> Tensor:
    """[n c h w] -> [n c 2h 2w], smooth."""
    return upfirdn2d(x, 2 * binomial(), up=2, pad=(2, 1, 2, 1))


def halve(x: Tensor) -> Tensor:
    """[n c h w] -> [n c h/2 w/2], without aliases."""
    return upfirdn2d(x, binomial(), down=2, pad=(1, 1, 1, 1))
