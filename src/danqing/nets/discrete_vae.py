"""The discrete VAE of DALL-E: pictures to a grid of tokens from a small vocabulary, and back.

Paper: Ramesh et al., Zero-Shot Text-to-Image Generation, arXiv 2102.12092 (section 2.1, appendix A). Layers
have the names and shapes of OpenAI's `dall-e` 0.1, so that its weights load. A config may differ from it:
patches of pixels before the first convolution, another number of groups, and another gain of the residual
branches, because with 1/64 they learn very little within a few thousand steps.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor, nn

from danqing.nets.placement import as_input

_MARGIN = 0.1  # pixels are mapped to [0.1, 0.9], so that logits are finite (appendix A.3)


@dataclass(frozen=True)
class DiscreteVAEConfig:
    """The shape of a `DiscreteVAE`.

    vocab: the number of tokens K in the vocabulary.
    hidden: channels at the finest of `groups` resolutions.
    blocks: residual blocks per group.
    start: channels of the decoder's first layer.
    kernel: kernel size of the encoder's first layer.
    patch: side in pixels of the square that is one position at the finest resolution.
    gain: the gain of the residual branches; None is 1 / (groups * blocks)^2, as in the paper.

    Raises:
        ValueError: a number is not possible for a network.
    """

    vocab: int = 8192
    channels: int = 3
    hidden: int = 256
    groups: int = 4
    blocks: int = 2
    start: int = 128
    kernel: int = 7
    patch: int = 1
    gain: float | None = None

    def __post_init__(self) -> None:
        if self.hidden % 4 or self.kernel % 2 == 0 or self.vocab < 2:
            raise ValueError(
                f"hidden {self.hidden}, kernel {self.kernel}, vocab {self.vocab}: "
                "hidden must be a multiple of 4, kernel odd, and vocab 2 or more"
            )

    @property
    def factor(self) -> int:
        """Pixels per token along one side."""
        return int(self.patch * 2 ** (self.groups - 1))

    @property
    def widths(self) -> list[int]:
        """Channels of each group, finest resolution first."""
        return [self.hidden * 2**k for k in range(self.groups)]


class DiscreteVAE(nn.Module):
    """An encoder from pixels to logits over the vocabulary, and a decoder from tokens to pixels.

    The decoder gives the parameters of a logit-Laplace distribution of pixels.
    """

    def __init__(self, config: DiscreteVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)

    def logits(self, pixels: Tensor) -> Tensor:
        """Pictures [n c h w] in [-1, 1] -> logits [n vocab h/factor w/factor], float32.

        Raises:
            ValueError: a side is not a multiple of the factor.
        """
        factor = self.config.factor
        if pixels.shape[-1] % factor or pixels.shape[-2] % factor:
            raise ValueError(f"sides {list(pixels.shape[-2:])} must be multiples of {factor}")
        patches = F.pixel_unshuffle(map_pixels(pixels), self.config.patch)
        output: Tensor = self.encoder(as_input(self, patches))
        return output.float()

    def parameters_of(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Decode to mu and ln b of the logit-Laplace, both [n c h*factor w*factor], float32.

        weights: the weight of each token at each position [n vocab h w], such as one-hot.
        """
        output = F.pixel_shuffle(self.decoder(as_input(self, weights)).float(), self.config.patch)
        mean, log_scale = output.chunk(2, dim=1)
        return mean, log_scale

    @torch.no_grad()
    def tokens(self, pixels: Tensor) -> Tensor:
        """Pictures [n c h w] in [-1, 1] -> the most likely tokens [n h/factor w/factor]."""
        return self.logits(pixels).argmax(dim=1)

    @torch.no_grad()
    def pictures(self, tokens: Tensor) -> Tensor:
        """Tokens [n h w] -> pictures [n c h*factor w*factor] in [-1, 1]."""
        weights = F.one_hot(tokens, self.config.vocab).movedim(-1, 1).float()
        return unmap_pixels(torch.sigmoid(self.parameters_of(weights)[0]))

    def blocks(self) -> list[_Block]:
        """All residual blocks."""
        return [module for module in self.modules() if isinstance(module, _Block)]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the network from the output of `to_config`."""
        return cls(DiscreteVAEConfig(**config))

    def to_config(self) -> dict[str, Any]:
        """The configuration as plain values, for `config.json`."""
        return asdict(self.config)


def map_pixels(pixels: Tensor) -> Tensor:
    """Map pixels linearly from [-1, 1] to [0.1, 0.9]."""
    return (pixels + 1) / 2 * (1 - 2 * _MARGIN) + _MARGIN


def unmap_pixels(values: Tensor) -> Tensor:
    """Map values linearly from [0.1, 0.9] to pixels in [-1, 1]; values outside are clipped."""
    return ((values - _MARGIN) / (1 - 2 * _MARGIN)).clamp(0, 1) * 2 - 1


def gumbel(shape: tuple[int, ...], rng: Generator) -> Tensor:
    """Standard Gumbel noise: -ln of exponential noise."""
    return -torch.empty(shape).exponential_(generator=rng).clamp(min=1e-20).log()


def gumbel_softmax(logits: Tensor, noise: Tensor, tau: float | Tensor) -> Tensor:
    """Relaxed one-hot samples [n vocab h w] (arXiv 1611.01144 eq. 2); exact samples as tau goes to 0."""
    return ((logits + noise) / tau).softmax(dim=1)


def divergence(logits: Tensor) -> Tensor:
    """KL(q || uniform) = ln K - H(q) of each position, [n h w], from 0 to ln K (nats)."""
    log_q = logits.log_softmax(dim=1)
    return (log_q.exp() * (log_q + torch.log(torch.tensor(logits.shape[1])))).sum(dim=1)


def logit_laplace(values: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """-ln f(x | mu, b), elementwise, for x in (0, 1): appendix A.3.

    f = exp(-|logit(x) - mu| / b) / (2 b x (1 - x)).
    """
    distance = (torch.logit(values) - mean).abs() * torch.exp(-log_scale)
    return distance + log_scale + torch.log(2 * values * (1 - values))


class _Block(nn.Module):
    """x + gain * (four convolutions of x), with `outputs` / 4 channels inside."""

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, ...], gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.id_path = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        widths = [inputs, *[outputs // 4] * (len(kernels) - 1), outputs]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for k, ((before, after), kernel) in enumerate(zip(pairwise(widths), kernels, strict=True), start=1):
            layers[f"relu_{k}"] = nn.ReLU()
            layers[f"conv_{k}"] = _conv(before, after, kernel)
        self.res_path = nn.Sequential(layers)

    @property
    def last(self) -> nn.Conv2d:
        """The last convolution of the residual branch."""
        layer = self.res_path[-1]
        assert isinstance(layer, nn.Conv2d)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.id_path(x) + self.gain * self.res_path(x)
        return output


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A convolution with initial weights of standard deviation 1/sqrt(fan in) and a bias of zero."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.normal_(conv.weight, std=(inputs * kernel**2) ** -0.5)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class _Stack(nn.Module):
    """An encoder or decoder with the keys of the published weights, such as blocks.group_1.block_1."""

    def __init__(self, ends: tuple[nn.Conv2d, nn.Conv2d], groups: list[nn.Sequential]) -> None:
        super().__init__()
        named = {f"group_{k}": group for k, group in enumerate(groups, start=1)}
        first, last = ends
        output = nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=last))
        self.blocks = nn.Sequential(OrderedDict({"input": first, **named, "output": output}))

    @property
    def ends(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The first and the last convolution."""
        first, last = self.blocks[0], list(self.blocks[-1].children())[-1]
        assert isinstance(first, nn.Conv2d)
        assert isinstance(last, nn.Conv2d)
        return first, last

    def forward(self, x: Tensor) -> Tensor:
        """Apply all layers."""
        output: Tensor = self.blocks(x)
        return output


def _encoder(config: DiscreteVAEConfig) -> _Stack:
    widths = [config.hidden, *config.widths]
    first = _conv(config.channels * config.patch**2, config.hidden, config.kernel)
    groups = [_group(config, *pair, (3, 3, 3, 1)) for pair in pairwise(widths)]
    for group in groups[:-1]:
        group.add_module("pool", nn.MaxPool2d(2))
    return _Stack((first, _conv(widths[-1], config.vocab, 1)), groups)


def _decoder(config: DiscreteVAEConfig) -> _Stack:
    widths = [config.start, *reversed(config.widths)]
    first = _conv(config.vocab, config.start, 1)
    groups = [_group(config, *pair, (1, 3, 3, 3)) for pair in pairwise(widths)]
    for group in groups[:-1]:
        group.add_module("upsample", nn.Upsample(scale_factor=2, mode="nearest"))
    return _Stack((first, _conv(config.hidden, 2 * config.channels * config.patch**2, 1)), groups)


def _group(config: DiscreteVAEConfig, before: int, after: int, kernels: tuple[int, ...]) -> nn.Sequential:
    gain = config.gain or 1 / (config.groups * config.blocks) ** 2
    inputs = [before, *[after] * (config.blocks - 1)]
    blocks = {f"block_{k}": _Block(width, after, kernels, gain) for k, width in enumerate(inputs, start=1)}
    return nn.Sequential(OrderedDict(blocks))
