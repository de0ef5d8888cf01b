"""The decoder-only transformer of DALL-E: predicts the tokens of a text and then those of its picture.

Papers: Ramesh et al., arXiv 2102.12092 (section 2.2, appendix B.1); Vaswani et al., arXiv 1706.03762 (the
blocks, here with the norm first). A short text is padded; each position has a pad token of its own. The two
output heads, for text and for picture tokens, equal the paper's joint softmax with the other vocabulary
masked.
Difference: the text head shares its weights with the embedding, which saves a fifth of a small network (arXiv
1608.05859).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True)
class TokenTransformerConfig:
    """The shape of a `TokenTransformer`; a picture is side x side tokens.

    words: size of the text vocabulary, without pad tokens.
    text: number of text positions.
    vocab: size of the picture vocabulary.
    side: side of a picture in tokens.
    layers: number of layers.
    width: width of a state.
    heads: number of attention heads.
    attention: "full", or "sparse" as in the paper: layers attend to rows, columns, rows, rows in turn, and
        the last layer to a convolutional window.
    window: side of that window, odd.

    Raises:
        ValueError: a number is not possible for a network.
    """

    words: int = 16384
    text: int = 256
    vocab: int = 8192
    side: int = 32
    layers: int = 64
    width: int = 3968
    heads: int = 62
    attention: str = "full"
    window: int = 11

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be split among {self.heads} heads")
        if self.attention not in ("full", "sparse") or self.window % 2 == 0:
            raise ValueError(
                f"attention {self.attention!r} with window {self.window}: full or sparse, and odd"
            )

    @property
    def picture(self) -> int:
        """The number of tokens of a picture."""
        return self.side**2

    @property
    def length(self) -> int:
        """The number of input tokens: all but the last one of the picture."""
        return self.text + self.picture - 1


Cache = list[tuple[Tensor, Tensor]]
"""For each layer the keys and values [n heads l d] of the tokens read so far."""


class TokenTransformer(nn.Module):
    """Logits of the next token at every position."""

    def __init__(self, config: TokenTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.word = nn.Embedding(config.words + config.text, width)
        self.token = nn.Embedding(config.vocab, width)
        self.place = nn.Parameter(torch.zeros(config.text, width))
        self.row = nn.Parameter(torch.zeros(config.side, 1, width))
        self.column = nn.Parameter(torch.zeros(config.side, width))
        kinds = kinds_of(config)
        self.layers = nn.ModuleList(_Layer(config, mask_of(config, kind)) for kind in kinds)
        self.norm = nn.LayerNorm(width)
        self.word_bias = nn.Parameter(torch.zeros(config.words + config.text))
        self.token_head = nn.Linear(width, config.vocab)
        self._start()

    def with_pads(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Text ids [n text] in which the pad token of its position replaces each id where `mask` is False."""
        pads = self.config.words + torch.arange(self.config.text, device=ids.device)
        return torch.where(mask, ids, pads)

    def forward(self, text: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Padded text [n text] and tokens [n side * side] -> logits of text[1:] and of the whole picture.

        They are [n text - 1 words + text] and [n side * side vocab]. The first text token is not predicted,
        and the last token of the picture is not an input.
        """
        read = torch.cat([self.text_states(text), self.token_states(picture[:, :-1], 0)], dim=1)
        states = self.read(read, 0, None)
        before = self.config.text - 1
        of_words = F.linear(states[:, :before], self.word.weight, self.word_bias)
        return of_words, self.token_head(states[:, before:])

    def begin(self, text: Tensor, picture: Tensor) -> tuple[Tensor, Cache]:
        """Padded text [n text] and the first k tokens [n k] -> logits [n vocab] of token k, and a cache."""
        cache: Cache = []
        read = torch.cat([self.text_states(text), self.token_states(picture, 0)], dim=1)
        return self.token_head(self.read(read, 0, cache)[:, -1]), cache

    def go_on(self, token: Tensor, at: int, cache: Cache) -> Tensor:
        """Picture token number `at` [n], counted from 0 -> logits [n vocab] of the next. Extends `cache`."""
        states = self.read(self.token_states(token[:, None], at), self.config.text + at, cache)
        logits: Tensor = self.token_head(states[:, -1])
        return logits

    def text_states(self, text: Tensor) -> Tensor:
        """Padded text [n text] -> embeddings [n text width], the input of the first layer."""
        states: Tensor = self.word(text) + self.place
        return states

    def token_states(self, tokens: Tensor, at: int) -> Tensor:
        """Picture tokens [n l], the first of which is number `at` -> embeddings [n l width]."""
        places = (self.row + self.column).flatten(0, 1)[at : at + tokens.shape[1]]
        states: Tensor = self.token(tokens) + places
        return states

    def read(self, states: Tensor, at: int, cache: Cache | None) -> Tensor:
        """Apply all layers to states [n l width] of the positions from `at` on.

        cache: keys and values of the positions before them, which is extended; None keeps none.
        """
        for k, layer in enumerate(self.layers):
            if cache is None:
                states, _ = layer(states, at, None)
            elif k < len(cache):
                states, cache[k] = layer(states, at, cache[k])
            else:
                states, kept = layer(states, at, None)
                cache.append(kept)
        normed: Tensor = self.norm(states)
        return normed

    def _start(self) -> None:
        """Initialise weights as in GPT-2; residual branches are scaled by the number of layers."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            for out in (layer.out, layer.narrow):
                nn.init.normal_(out.weight, std=0.02 * (2 * self.config.layers) ** -0.5)
        for places in (self.place, self.row, self.column):
            nn.init.normal_(places, std=0.01)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the network from the output of `to_config`."""
        return cls(TokenTransformerConfig(**config))

    def to_config(self) -> dict[str, Any]:
        """The configuration as plain values, for `config.json`."""
        return asdict(self.config)


class _Layer(nn.Module):
    """A pre-norm transformer block: attention, then an MLP with GELU, both with a residual connection."""

    mask: Tensor

    def __init__(self, config: TokenTransformerConfig, mask: Tensor) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.register_buffer("mask", mask, persistent=False)

    def forward(
        self, x: Tensor, at: int, kept: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Apply the block to x [n l width] from position `at` on; returns also all keys and values.

        kept: keys and values of the positions before `at`; None if there are none.
        """
        n, length, width = x.shape
        heads = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if kept is not None:
            key, value = torch.cat([kept[0], key], dim=2), torch.cat([kept[1], value], dim=2)
        attn_mask = self.mask[at : at + length, : key.shape[2]]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x)))), (key, value)


def kinds_of(config: TokenTransformerConfig) -> list[str]:
    """The mask kind of each layer: "all"; or "row", "column", "row", "row" in turn, and "window" last."""
    if config.attention == "full":
        return ["all"] * config.layers
    kinds = ["column" if k % 4 == 1 else "row" for k in range(config.layers)]
    return [*kinds[:-1], "window"]


def mask_of(config: TokenTransformerConfig, kind: str) -> Tensor:
    """The attention mask [length length] of a layer; True where the row's token attends to the column's.

    Every token attends to itself and to the text tokens before it. Picture tokens are in raster order, and
    windows continue across the edges of rows. A picture token also attends to earlier picture tokens: for
    "row" those since the one above it; for "column" those above it; for "window" the upper half of a square
    around it (appendix B.1, figure 11).
    """
    count = torch.arange(config.length)
    causal = count[:, None] >= count
    if kind == "all":
        return causal
    back = count[:, None] - count  # how many tokens before, for two picture tokens
    half, side = config.window // 2, config.side
    aside = (back + half) % side  # in [0, 2 * half] for the columns of the window
    near = {
        "row": back <= side,
        "column": back % side == 0,
        "window": (aside <= 2 * half) & ((back + half) // side <= half),
    }[kind]
    text = count < config.text
    return causal & (near | text | text[:, None])
