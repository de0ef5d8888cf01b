"""The discriminator of StyleGAN 2: residual blocks and the minibatch standard deviation.

Papers: arXiv 1912.04958 section 4; minibatch standard deviation: arXiv 1710.10196 section 3.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from danqing.core.errors import BadData
from danqing.nets.latent import Discriminator, Verdict
from danqing.nets.stylegan.generator import StyleConfig
from danqing.nets.stylegan.layers import EqualConv, EqualLinear, leaky_relu, unit


class StyleDiscriminator(Discriminator):
    """Pictures and labels -> logits."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config = config
        widths = list(reversed(config.widths))
        deepest = widths[-1]
        self.eye = _Layer(config.channels, widths[0], 1)
        self.blocks = nn.Sequential(*(_Block(before, after) for before, after in pairwise(widths)))
        self.last = _Layer(deepest + 1, deepest, 3)
        self.features = EqualLinear(deepest * 16, deepest)
        self.verdict = Verdict(deepest, config.labels, EqualLinear)

    def forward(self, pixels: Tensor, label: Tensor) -> Tensor:
        """See `Discriminator.forward`. Pictures are compared in groups, so the batch matters."""
        x = self.blocks(self.eye(pixels))
        x = self.last(with_deviation(x, self.config.group))
        # equalised layers expect inputs of mean square 1; a label has few ones among many zeros
        logits: Tensor = self.verdict(leaky_relu(self.features(x.flatten(1))), unit(label))
        return logits

    def check_batch(self, n: int) -> None:
        """As `LatentGenerator.check_batch`; the batch is divided into groups of equal size.

        Raises:
            BadData: n is not a multiple of the group size.
        """
        group = self.config.group
        if n % group:
            near = [str(side) for side in (n - n % group, n - n % group + group) if side]
            raise BadData(
                f"batch {n} is no multiple of the {group} pictures that are compared: use {' or '.join(near)}"
            )


class _Layer(nn.Module):
    """A convolution, a bias and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, down: bool = False) -> None:
        super().__init__()
        self.conv = EqualConv(inputs, outputs, kernel, down=down)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.conv(x) + self.bias)


class _Block(nn.Module):
    """A residual block of two convolutions; both branches halve the sides."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = _Layer(inputs, inputs, 3)
        self.second = _Layer(inputs, outputs, 3, down=True)
        self.short = EqualConv(inputs, outputs, 1, down=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x)) + self.short(x)
        return y / math.sqrt(2)


def with_deviation(x: Tensor, group: int) -> Tensor:
    """Append the minibatch standard deviation as a channel: [n c h w] -> [n c+1 h w].

    It is the standard deviation of each feature over a group of pictures, averaged over all features. The
    group of picture i are all pictures j with j equal to i modulo n / group.
    """
    n, _, h, w = x.shape
    size = min(group, n)
    parts = x.view(size, n // size, *x.shape[1:])
    centred = parts - parts.mean(dim=0)
    deviation = (centred.square().mean(dim=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return torch.cat([x, deviation.repeat(size).view(n, 1, 1, 1).expand(-1, 1, h, w)], dim=1)
