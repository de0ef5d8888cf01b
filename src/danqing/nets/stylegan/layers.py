"""Layers whose weights all have deviation 1, and convolutions that a style modulates.

Equalised learning rate: Karras et al., arXiv 1710.10196 section 4.1. Modulation and demodulation: arXiv
1912.04958 section 2.2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from danqing.nets.stylegan.filters import binomial, upfirdn2d

_EPSILON = 1e-8


class EqualLinear(nn.Module):
    """[n inputs] -> [n outputs]. Weights are drawn with deviation 1 and scaled when used.

    start: of the bias. rate: how fast it learns; the weights are drawn larger and scaled smaller by it.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool = True, start: float = 0.0, rate: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), start / rate)) if bias else None
        self.gain, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        """As an ordinary layer with weights `weight * gain`."""
        bias = None if self.bias is None else self.bias * self.rate
        return F.linear(x, self.weight * self.gain, bias)


class EqualConv(nn.Module):
    """[n inputs h w] -> [n outputs h w], or half the sides with `down`; no bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, down: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.gain, self.down = 1 / math.sqrt(inputs * kernel**2), down

    def forward(self, x: Tensor) -> Tensor:
        """Blurred before pixels are left out."""
        kernel = self.weight.shape[-1]
        if not self.down:
            return F.conv2d(x, self.weight * self.gain, padding=kernel // 2)
        before, after = 1 + kernel // 2, 1 + (kernel - 1) // 2
        blurred = upfirdn2d(x, binomial(), pad=(before, after, before, after))
        return F.conv2d(blurred, self.weight * self.gain, stride=2)


class ModulatedConv(nn.Module):
    """A convolution whose input channels a style scales: [n inputs h w], [n style] -> [n outputs h w].

    With weights w and scales s of a picture, w'_oik = s_i w_oik; demodulated, each output channel is divided
    by sqrt(sum_ik w'_oik^2 + 1e-8), so that its deviation is 1 for inputs of deviation 1 (arXiv 1912.04958
    eq. 1 and 3). Scaling what goes in and what comes out is the same as scaling weights, and needs no
    weights for each picture. up: twice the sides.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, *, demodulate: bool = True, up: bool = False
    ) -> None:
        super().__init__()
        self.affine = EqualLinear(style, inputs, start=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        # a demodulated layer forgets the scale of its weights; the others start as small as an equalised one
        self.gain = 1.0 if demodulate else 1 / math.sqrt(inputs * kernel**2)
        self.demodulate, self.up = demodulate, up

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Modulated by style w."""
        scales = self.affine(w) * self.gain
        y = self._convolve(x * scales[:, :, None, None])
        return y * self._norm(scales)[:, :, None, None] if self.demodulate else y

    def _convolve(self, x: Tensor) -> Tensor:
        if not self.up:
            return F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        wide = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
        return upfirdn2d(wide, 2 * binomial(), pad=(1, 1, 1, 1))

    def _norm(self, scales: Tensor) -> Tensor:
        """What each output channel is multiplied with, [n outputs]."""
        return torch.rsqrt(scales.square() @ self.weight.square().sum(dim=(2, 3)).T + _EPSILON)


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2 that keeps the mean square of a normal input, nearly: times sqrt(2)."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def unit(x: Tensor) -> Tensor:
    """Rows [n d] with a mean square of 1; a row of zeros stays."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + _EPSILON)
