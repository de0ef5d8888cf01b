"""The first generative adversarial networks: multilayer perceptrons, and DCGAN.

Papers: Goodfellow et al., Generative Adversarial Nets, arXiv 1406.2661 (ReLU generator, maxout
discriminator); Radford et al., DCGAN, arXiv 1511.06434. Differences: both are conditioned on labels; both
generators end with tanh, because pictures are in [-1, 1]; latents are Gaussian, so that spherical
interpolation works; discriminators have no dropout and no batch norm, because R1 stabilises them (arXiv
1801.04406).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from danqing.core.errors import BadData
from danqing.nets.latent import Discriminator, Drawn, LatentGenerator, Verdict, halvings, normal

_PIECES = 5  # linear pieces of a maxout unit


@dataclass(frozen=True)
class GanConfig:
    """The shape of a GAN.

    kind: "mlp" or "dcgan".
    size: side of the pictures in pixels.
    channels: channels of the pictures.
    latent: width of z.
    width: hidden units of an MLP, or channels of a DCGAN at half the side of the pictures.
    labels: number of class names.

    Raises:
        ValueError: the side is not a power of two.
    """

    kind: str = "dcgan"
    size: int = 32
    channels: int = 4
    latent: int = 64
    width: int = 48
    labels: int = 0

    def __post_init__(self) -> None:
        halvings(self.size)

    @property
    def widths(self) -> list[int]:
        """Channels of a DCGAN at 4 x 4 pixels, 8 x 8 and so on, up to half the side."""
        return [self.width * 2**k for k in reversed(range(halvings(self.size)))]


class GanGenerator(LatentGenerator):
    """A latent vector z [n latent] and a label -> pictures [n c size size] in [-1, 1]."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config, self.size, self.labels = config, config.size, config.labels
        self.label_embedding = nn.Linear(config.labels, config.latent, bias=False) if config.labels else None
        build, _ = _KINDS[config.kind]
        self.body = build(config, config.latent * (2 if config.labels else 1))

    def draw(self, n: int, rng: Generator) -> Drawn:
        """A standard normal z for each of n pictures."""
        return {"z": normal(n, self.config.latent, rng)}

    def forward(self, drawn: Drawn, label: Tensor) -> Tensor:
        """See `LatentGenerator.forward`."""
        z = drawn["z"]
        if self.label_embedding is not None:
            z = torch.cat([z, self.label_embedding(label)], dim=1)
        return torch.tanh(self.body(z))

    def check_batch(self, n: int) -> None:
        """See `LatentGenerator.check_batch`; batch norm needs two pictures or more.

        Raises:
            BadData: the batch has one picture.
        """
        normed = any(isinstance(layer, nn.BatchNorm2d) for layer in self.modules())
        if normed and n < 2:
            raise BadData(f"batch {n} is too small for batch norm: use 2 or more")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the network from the output of `to_config`."""
        return cls(GanConfig(**config))

    def to_config(self) -> dict[str, Any]:
        """The configuration as plain values, for `config.json`."""
        return asdict(self.config)


class GanDiscriminator(Discriminator):
    """Pictures and labels -> logits."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        _, build = _KINDS[config.kind]
        self.body, width = build(config)
        self.verdict = Verdict(width, config.labels)

    def forward(self, pixels: Tensor, label: Tensor) -> Tensor:
        """See `Discriminator.forward`."""
        logits: Tensor = self.verdict(self.body(pixels), label)
        return logits

    def check_batch(self, n: int) -> None:
        """Any batch size is valid, because each picture is judged independently."""


class Maxout(nn.Module):
    """[n inputs] -> [n outputs]; each output is the maximum of five linear functions (arXiv 1302.4389)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.linear = nn.Linear(inputs, outputs * _PIECES)

    def forward(self, x: Tensor) -> Tensor:
        """The maximum of each unit's linear functions."""
        pieces: Tensor = self.linear(x).view(len(x), self.outputs, _PIECES)
        return pieces.amax(dim=2)


def _perceptron(config: GanConfig, inputs: int) -> nn.Module:
    sides = (config.channels, config.size, config.size)
    return nn.Sequential(
        nn.Linear(inputs, config.width),
        nn.ReLU(),
        nn.Linear(config.width, config.width),
        nn.ReLU(),
        nn.Linear(config.width, config.channels * config.size**2),
        nn.Unflatten(1, sides),
    )


def _maxout(config: GanConfig) -> tuple[nn.Module, int]:
    inputs, width = config.channels * config.size**2, max(1, config.width // _PIECES)
    return nn.Sequential(nn.Flatten(), Maxout(inputs, width), Maxout(width, width)), width


def _convolutional(config: GanConfig, inputs: int) -> nn.Module:
    first, *_ = widths = config.widths
    layers: list[nn.Module] = [
        nn.Unflatten(1, (inputs, 1, 1)),
        nn.ConvTranspose2d(inputs, first, 4, bias=False),
    ]
    for before, after in pairwise(widths):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
    last = widths[-1]
    layers += [nn.BatchNorm2d(last), nn.ReLU(), nn.ConvTranspose2d(last, config.channels, 4, 2, 1)]
    return _small_start(nn.Sequential(*layers))


def _convolutional_judge(config: GanConfig) -> tuple[nn.Module, int]:
    widths = [config.channels, *reversed(config.widths)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
    return _small_start(nn.Sequential(*layers, nn.Flatten())), widths[-1] * 16


def _small_start(body: nn.Sequential) -> nn.Sequential:
    """Initialise weights as in DCGAN: standard deviation 0.02 (section 3 of the paper)."""
    for layer in body:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, mean=1.0, std=0.02)
    return body


_Generator = Callable[[GanConfig, int], nn.Module]
_Judge = Callable[[GanConfig], tuple[nn.Module, int]]
_KINDS: dict[str, tuple[_Generator, _Judge]] = {
    "mlp": (_perceptron, _maxout),
    "dcgan": (_convolutional, _convolutional_judge),
}
