"""The generator of StyleGAN 2: a mapping network from z to a style w, and a synthesis network of styles.

Papers: Karras et al., A Style-Based Generator Architecture, arXiv 1812.04948; with demodulation and skips
of arXiv 1912.04958 and the shallow mapping network of ADA, arXiv 2006.06676. Differences: a label is added to
the latent as a sum of embeddings, so that classes can be mixed; any number of channels, so also alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from danqing.nets.latent import Drawn, LatentGenerator, halvings, normal
from danqing.nets.stylegan.filters import double
from danqing.nets.stylegan.layers import EqualLinear, ModulatedConv, leaky_relu, unit

_MEAN_DECAY = 0.995  # of the moving average of w


@dataclass(frozen=True)
class StyleConfig:
    """The shape of a StyleGAN. At a side of s pixels there are min(width, base // s) channels.

    size: side of the pictures in pixels.
    channels: channels of the pictures.
    latent: width of z.
    style: width of w.
    depth: layers of the mapping network.
    rate: learning rate of these layers relative to the others; 0.01 in the papers, whose runs are a hundred
        times longer than some of ours.
    width: the largest number of channels.
    base: channels times side, where `width` does not limit it.
    group: group size of the discriminator's minibatch standard deviation.
    mixing: the fraction of training pictures with two styles, in [0, 1].
    labels: number of class names.

    Raises:
        ValueError: the side is not a power of two.
    """

    size: int = 64
    channels: int = 4
    latent: int = 128
    style: int = 128
    depth: int = 2
    rate: float = 0.01
    width: int = 256
    base: int = 2048
    group: int = 4
    mixing: float = 0.9
    labels: int = 0

    def __post_init__(self) -> None:
        halvings(self.size)

    @property
    def widths(self) -> list[int]:
        """Channels at 4 x 4 pixels, 8 x 8 and so on, up to the full side."""
        return [min(self.width, self.base // (4 * 2**k)) for k in range(halvings(self.size) + 1)]


class Mapping(nn.Module):
    """z [n latent] and a label [n k] -> w [n style]."""

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        labelled = config.labels > 0
        self.label_embedding = EqualLinear(config.labels, config.latent, bias=False) if labelled else None
        widths = [config.latent * (1 + labelled), *[config.style] * config.depth]
        self.layers = nn.ModuleList(EqualLinear(a, b, rate=config.rate) for a, b in pairwise(widths))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """The style w; z and the embedded label are first normalised to a mean square of 1."""
        x = unit(z)
        if self.label_embedding is not None:
            x = torch.cat([x, unit(self.label_embedding(label))], dim=1)
        for layer in self.layers:
            x = leaky_relu(layer(x))
        return x


class StyleLayer(nn.Module):
    """A modulated convolution, noise of a learned strength, a bias and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, style: int, *, up: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style, up=up)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """The features of the next layer.

        noise: [n 1 h w] of the size of the result; None adds none.
        """
        x = self.conv(x, w)
        x = x if noise is None else x + self.strength * noise
        return leaky_relu(x + self.bias)


class ToPixels(nn.Module):
    """The layer toRGB: features -> their contribution to the picture."""

    def __init__(self, inputs: int, channels: int, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, channels, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[n inputs h w] -> [n channels h w]."""
        pixels: Tensor = self.conv(x, w) + self.bias
        return pixels


class Synthesis(nn.Module):
    """The synthesis network: styles ws [n rows style] and noise -> pictures.

    It begins with a learned constant of 4 x 4; each resolution adds to the picture.
    """

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        widths = config.widths
        self.start = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        layers = [StyleLayer(widths[0], widths[0], config.style, up=False)]
        for before, after in pairwise(widths):
            layers.append(StyleLayer(before, after, config.style, up=True))
            layers.append(StyleLayer(after, after, config.style, up=False))
        self.layers = nn.ModuleList(layers)
        self.pixels = nn.ModuleList(ToPixels(width, config.channels, config.style) for width in widths)

    @property
    def rows(self) -> int:
        """How many styles it takes: one for each layer and one for the last `ToPixels`."""
        return len(self.layers) + 1

    @property
    def sides(self) -> list[int]:
        """The side of each layer's noise."""
        return [4 * 2 ** ((k + 1) // 2) for k in range(len(self.layers))]

    def forward(self, ws: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        """The pictures, not clipped.

        noise: [n 1 side side] for each of `sides`; None adds none.
        """
        noises: Sequence[Tensor | None] = noise or [None] * len(self.layers)
        x = self.layers[0](self.start.expand(len(ws), -1, -1, -1), ws[:, 0], noises[0])
        picture: Tensor = self.pixels[0](x, ws[:, 1])
        for k, pixels in enumerate(self.pixels[1:], start=1):
            for row in (2 * k - 1, 2 * k):
                x = self.layers[row](x, ws[:, row], noises[row])
            picture = double(picture) + pixels(x, ws[:, 2 * k + 1])
        return picture


class StyleGenerator(LatentGenerator):
    """The latent z, a label and noise -> pictures [n c size size] in about [-1, 1]."""

    mean: Tensor

    def __init__(self, config: StyleConfig) -> None:
        super().__init__()
        self.config, self.size, self.labels = config, config.size, config.labels
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)
        self.register_buffer("mean", torch.zeros(config.style))

    def draw(self, n: int, rng: Generator) -> Drawn:
        """Two latents, the row from which on the style of the second one is used, and noise."""
        rows = self.synthesis.rows
        cut = torch.randint(1, rows, (n,), generator=rng)
        mix_styles = torch.rand(n, generator=rng) < self.config.mixing
        drawn = {name: normal(n, self.config.latent, rng) for name in ("z", "other")}
        noise = {f"noise{k}": shape for k, shape in enumerate(self.noise_of(n, rng))}
        return {**drawn, "cut": torch.where(mix_styles, cut, rows), **noise}

    def noise_of(self, n: int, rng: Generator) -> list[Tensor]:
        """Standard normal noise for each layer."""
        return [torch.randn(n, 1, side, side, generator=rng) for side in self.synthesis.sides]

    def forward(self, drawn: Drawn, label: Tensor) -> Tensor:
        """See `LatentGenerator.forward`; in training some pictures have two styles."""
        noise = [drawn[f"noise{k}"] for k in range(len(self.synthesis.sides))]
        pictures: Tensor = self.synthesis(self.styles(drawn, label), noise)
        return pictures

    def styles(self, drawn: Drawn, label: Tensor) -> Tensor:
        """The styles ws [n rows style]; in training they are mixed, and update the mean style."""
        w = self.mapping(drawn["z"], label)
        if not self.training:
            return self.rows(w)
        self.mean.lerp_(w.detach().mean(dim=0), 1 - _MEAN_DECAY)
        return mix_styles(self.rows(w), self.rows(self.mapping(drawn["other"], label)), drawn["cut"])

    def rows(self, w: Tensor) -> Tensor:
        """Repeat one style for all rows: [n style] -> [n rows style]."""
        return w[:, None].expand(-1, self.synthesis.rows, -1)

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Interpolate from the mean style (psi 0) to w [... style] (psi 1); arXiv 1812.04948 appendix B."""
        return w if psi == 1 else self.mean + psi * (w - self.mean)

    def check_batch(self, n: int) -> None:
        """Any batch size is valid, because each picture is painted independently."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the network from the output of `to_config`."""
        return cls(StyleConfig(**config))

    def to_config(self) -> dict[str, Any]:
        """The configuration as plain values, for `config.json`."""
        return asdict(self.config)


def mix_styles(ws: Tensor, others: Tensor, cut: Tensor | int) -> Tensor:
    """Rows of `ws` [n rows d] before row `cut`, and those of `others` from it on.

    cut: one number, or one for each picture [n].
    """
    cuts = torch.as_tensor(cut, device=ws.device).view(-1, 1, 1)
    rows = torch.arange(ws.shape[1], device=ws.device).view(1, -1, 1)
    return torch.where(rows < cuts, ws, others)
