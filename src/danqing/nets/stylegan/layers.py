"""Layers with equalised learning rate, and convolutions that a style modulates.

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
    """[n inputs] -> [n outputs]. Weights have an initial standard deviation of 1 and are scaled when used.

    start: the initial bias.
    rate: learning rate relative to other layers; initial weights are divided by it, and the scale multiplied.
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool = True, start: float = 0.0, rate: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), start / rate)) if bias else None
        self.gain, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        """The output of a linear layer with weights `weight * gain`."""
        bias = None if self.bias is None else self.bias * self.rate
        return F.linear(x, self.weight * self.gain, bias)


class EqualConv(nn.Module):
    """[n inputs h w] -> [n outputs h w], without a bias; with `down`, the sides are halved."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, down: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.gain, self.down = 1 / math.sqrt(inputs * kernel**2), down

    def forward(self, x: Tensor) -> Tensor:
        """The convolution; a downsampling one blurs its input first."""
        kernel = self.weight.shape[-1]
        if not self.down:
            return F.conv2d(x, self.weight * self.gain, padding=kernel // 2)
        before, after = 1 + kernel // 2, 1 + (kernel - 1) // 2
        blurred = upfirdn2d(x, binomial(), pad=(before, after, before, after))
        return F.conv2d(blurred, self.weight * self.gain, stride=2)


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style: [n inputs h w], [n style] -> [n outputs h w].

    With weights w and scales s of a picture, the modulated weights are w'_oik = s_i w_oik. Demodulation
    divides each output channel by sqrt(sum_ik w'_oik^2 + 1e-8), so that its standard deviation is 1 for
    inputs of standard deviation 1 (arXiv 1912.04958 eq. 1 and 3). Scaling inputs and outputs is equal to
    scaling the weights, and needs no separate weights for each picture.

    up: whether to double the sides.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, *, demodulate: bool = True, up: bool = False
    ) -> None:
        super().__init__()
        self.affine = EqualLinear(style, inputs, start=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        # demodulation cancels the scale of the weights; other layers have the gain of `EqualConv`
        self.gain = 1.0 if demodulate else 1 / math.sqrt(inputs * kernel**2)
        self.demodulate, self.up = demodulate, up

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """The convolution of x, modulated by the style w."""
        scales = self.affine(w) * self.gain
        y = self._convolve(x * scales[:, :, None, None])
        return y * self._norm(scales)[:, :, None, None] if self.demodulate else y

    def _convolve(self, x: Tensor) -> Tensor:
        if not self.up:
            return F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        wide = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
        return upfirdn2d(wide, 2 * binomial(), pad=(1, 1, 1, 1))

    def _norm(self, scales: Tensor) -> Tensor:
        """The factor of each output channel, [n outputs]."""
        return torch.rsqrt(scales.square() @ self.weight.square().sum(dim=(2, 3)).T + _EPSILON)


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2 times sqrt(2), which nearly keeps the mean square of a normal input."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def unit(x: Tensor) -> Tensor:
    """Rows [n d] scaled to a mean square of 1; a row of zeros stays zero."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + _EPSILON)
