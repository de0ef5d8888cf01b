"""A small version of Imagen's Efficient U-Net, with most parameters at low resolution.

Paper: Saharia et al., Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding, arXiv
2205.11487 appendix B: more blocks at low resolution, downsampling before the convolutions of a level and
upsampling after them, skip connections scaled by 1/sqrt 2, text tokens as further keys and values of
attention. Differences: skips are added, not concatenated; one learned token is always part of the context,
and is all of it where there is no text.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn

_LEVELS = 1000.0  # scales the noise level in [0, 1] to the range of t
_WAVES = 128  # width of the sinusoidal time embedding


@dataclass(frozen=True)
class EfficientUNetConfig:
    """The shape of an `EfficientUNet`. Each attention head has a width of 32.

    channels: channels of the pictures.
    concat_channels: channels that are concatenated to the pictures; 0 for a base model.
    text: width of a token state.
    widths: channels of the levels; the first is at full size, each next at half the size.
    depths: residual blocks of each level in the encoder, and as many in the decoder.
    attention: which levels attend to text tokens.
    to_itself: whether these levels have self-attention too; not for a stage that paints larger pictures than
        in training.
    embedding: width of the time embedding.
    """

    channels: int = 4
    concat_channels: int = 0
    text: int = 192
    widths: tuple[int, ...] = (32, 96, 160, 192)
    depths: tuple[int, ...] = (1, 1, 2, 1)
    attention: tuple[bool, ...] = (False, False, True, True)
    to_itself: bool = True
    embedding: int = 192


class EfficientUNet(nn.Module):
    """(x [n c h w], t [n], tokens) -> output [n c h w]; h and w are multiples of `size_multiple`."""

    def __init__(self, config: EfficientUNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EfficientUNetConfig()
        widths = config.widths
        self.stem = nn.Conv2d(config.channels + config.concat_channels, widths[0], 3, padding=1)
        self.words = TextContext(config.text, config.embedding)
        self.time = TimestepEmbedding(_WAVES, config.embedding)
        self.level = TimestepEmbedding(_WAVES, config.embedding) if config.concat_channels else None
        self.down = nn.ModuleList(
            UNetBlock(
                config, k, nn.Conv2d(widths[k - 1], width, 3, 2, 1) if k else nn.Identity(), nn.Identity()
            )
            for k, width in enumerate(widths)
        )
        self.up = nn.ModuleList(
            UNetBlock(config, k, nn.Identity(), Upsample(width, widths[k - 1]) if k else nn.Identity())
            for k, width in reversed(list(enumerate(widths)))
        )
        self.norm = nn.GroupNorm(_groups(widths[0]), widths[0])
        self.head = nn.Conv2d(widths[0], config.channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    @property
    def size_multiple(self) -> int:
        """The number of which h and w must be multiples."""
        return int(2 ** (len(self.config.widths) - 1))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Tensor,
        mask: Tensor | None = None,
        concat: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Tensor:
        """The output [n c h w].

        tokens: token states [n l text].
        mask: which tokens to attend to [n l], True is yes; None means all.
        concat: further input channels [n k h w].
        level: the noise level s of `concat` [n] in [0, 1].
        """
        context, attention_mask, pooled = self.words(tokens, mask)
        embedding = pooled + self.time(_waves(t).to(x.dtype))
        if self.level is not None:
            assert concat is not None, "a stage needs its small picture"
            assert level is not None, "a stage needs the level of its small picture"
            x = torch.cat([x, concat], dim=1)
            embedding = embedding + self.level(_waves(level * _LEVELS).to(x.dtype))
        embedding = F.silu(embedding)
        h, skips = self.stem(x), []
        for block in self.down:
            h = block(h, embedding, context, attention_mask)
            skips.append(h)
        for block in self.up:
            h = block(join_skip(h, skips.pop()), embedding, context, attention_mask)
        output: Tensor = self.head(F.silu(self.norm(h)))
        return output

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the network from the output of `to_config`."""
        lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
        if "beside" in lists:  # its name in danqing 0.1
            lists["concat_channels"] = lists.pop("beside")
        return cls(EfficientUNetConfig(**lists))

    def to_config(self) -> dict[str, Any]:
        """The configuration as plain values, for `config.json`."""
        return asdict(self.config)


class TextContext(nn.Module):
    """The context of attention: one learned token, and then the projected token states."""

    def __init__(self, text: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(text, width)
        self.nothing = nn.Parameter(torch.randn(width))
        self.pooled = TimestepEmbedding(width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Context [n 1+l d], its attention mask [n 1+l], and the mean of the unmasked tokens [n d].

        tokens: token states [n l text].
        mask: [n l]; None means no mask.
        """
        states = self.project(tokens)
        nothing = self.nothing.to(states).expand(len(states), 1, -1)
        context = torch.cat([nothing, states], dim=1)
        words = tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        attention_mask = F.pad(words, (1, 0), value=True)
        weights = attention_mask.to(context) / attention_mask.sum(1, keepdim=True)
        pooled: Tensor = self.pooled((weights[:, None] @ context)[:, 0])
        return context, attention_mask, pooled


class UNetBlock(nn.Module):
    """One level of the U-Net: ResNet blocks, each followed by attention to the text.

    before, after: modules that change the resolution, or identities.
    """

    def __init__(self, config: EfficientUNetConfig, k: int, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        width, attends = config.widths[k], config.attention[k]
        self.before, self.after = before, after
        self.blocks = nn.ModuleList(ResnetBlock(width, config.embedding) for _ in range(config.depths[k]))
        self.words = nn.ModuleList(
            Attention(width, config.embedding, config.to_itself) for _ in self.blocks if attends
        )

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor, attention_mask: Tensor) -> Tensor:
        """The output of the level.

        h: features [n c h w].
        embedding: the sum of the embeddings of time, pooled text and noise level [n d].
        context: tokens [n l d].
        attention_mask: which tokens to attend to [n l].
        """
        h = self.before(h)
        for k, block in enumerate(self.blocks):
            h = block(h, embedding)
            h = self.words[k](h, context, attention_mask) if len(self.words) else h
        out: Tensor = self.after(h)
        return out


class ResnetBlock(nn.Module):
    """A residual block of two convolutions; the embedding sets a scale and a shift between them."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(_groups(width), width) for _ in range(2))
        convs = [nn.Conv2d(width, width, 3, padding=1) for _ in range(2)]
        self.convs = nn.ModuleList(convs)
        self.modulation = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(convs[1].weight)  # an untrained block is the identity

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Features [n c h w] and embedding [n d] -> features [n c h w]."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        middle = self.norms[1](self.convs[0](F.silu(self.norms[0](h))))
        out: Tensor = h + self.convs[1](F.silu(middle * (1 + scale) + shift))
        return out


class Attention(nn.Module):
    """Cross-attention of pixels to text; `to_itself` adds self-attention (2205.11487 appendix D.3.1)."""

    def __init__(self, width: int, text: int, to_itself: bool) -> None:
        super().__init__()
        self.heads = max(1, width // 32)
        self.norm = nn.GroupNorm(_groups(width), width)
        self.query = nn.Linear(width, width, bias=False)
        self.words = nn.Linear(text, 2 * width, bias=False)
        self.places = nn.Linear(width, 2 * width, bias=False) if to_itself else None
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor, context: Tensor, attention_mask: Tensor) -> Tensor:
        """Features [n c h w], context [n l d] and its attention mask [n l] -> features [n c h w]."""
        places = self.norm(h).flatten(2).transpose(1, 2)
        pairs = self.words(context)
        if self.places is not None:
            pairs = torch.cat([pairs, self.places(places)], dim=1)
            attention_mask = F.pad(attention_mask, (0, places.shape[1]), value=True)
        keys, values = (self._heads(part) for part in pairs.chunk(2, dim=-1))
        heads = F.scaled_dot_product_attention(
            self._heads(self.query(places)), keys, values, attn_mask=attention_mask[:, None, None]
        )
        attended: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return h + attended.transpose(1, 2).reshape(h.shape)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Upsample(nn.Module):
    """Changes the number of channels, then doubles the sides with nearest-neighbour upsampling."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """[n c h w] -> [n d 2h 2w]."""
        upsampled: Tensor = F.interpolate(self.conv(h), scale_factor=2, mode="nearest")
        return upsampled


def current_key(name: str) -> str:
    """The current key of a tensor, from its key in a file of danqing 0.1 or later."""
    return name.replace(".told.", ".modulation.")


def join_skip(h: Tensor, skip: Tensor) -> Tensor:
    """Add a skip connection, both [n c h w]; the sum of two inputs of unit variance has unit variance."""
    return (h + skip) * math.sqrt(0.5)


def _waves(t: Tensor) -> Tensor:
    waves: Tensor = get_timestep_embedding(t, _WAVES, flip_sin_to_cos=True, downscale_freq_shift=0)
    return waves


def _groups(width: int) -> int:
    return math.gcd(width, 16)
