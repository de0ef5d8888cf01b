"""Records the cross-attention of a UNet to each token of a text (DAAM, arXiv 2210.04885)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from danqing.nets.ip_adapter import word_attention

_SAME = 1e-3  # largest difference of equal token states; those of other texts differ by about 1


class AttentionMaps:
    """The sum of the cross-attention to one text, at the size of the latents.

    Hooks record it without changing the outputs of the network.
    """

    def __init__(self, tokens: Tensor, height: int, width: int) -> None:
        """Start with empty maps.

        tokens: the token states of the text [1 L D].
        height, width: the size of the latents.
        """
        self._tokens, self._size = tokens, (height, width)
        self._total = torch.zeros(tokens.shape[1], height, width)
        self._count = 0

    @contextmanager
    def record(self, unet: nn.Module) -> Iterator[None]:
        """A context in which the attention of `unet` is added, from batch rows that attend to the text."""
        layers = word_attention(unet)
        hooks = [layer.register_forward_pre_hook(self._add, with_kwargs=True) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def mean(self) -> Tensor:
        """The mean attention of each position to each token [L h w]; the sum over L is 1.

        Raises:
            ValueError: nothing was recorded.
        """
        if not self._count:
            raise ValueError("no row of the network has read this text")
        return self._total / self._count

    @torch.no_grad()
    def _add(self, layer: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden = positional[0] if positional else named["hidden_states"]
        text = named.get("encoder_hidden_states", positional[1] if len(positional) > 1 else None)
        if text is None or not (rows := self._rows(text)):
            return
        hidden, text = hidden[rows], text[rows]
        query = layer.head_to_batch_dim(layer.to_q(hidden))
        key = layer.head_to_batch_dim(layer.to_k(text))
        scores = layer.get_attention_scores(query, key)  # [rows * heads, places, L]
        heights, widths = self._sides(scores.shape[1])
        maps = scores.float().mean(0).T.unflatten(1, (heights, widths))
        self._total += F.interpolate(maps[None], self._size, mode="bilinear")[0].cpu()
        self._count += 1

    def _rows(self, text: Tensor) -> list[int]:
        """The batch rows of a call that attend to the text, not to a negative or another prompt."""
        if text.shape[1:] != self._tokens.shape[1:]:
            return []
        distance = (text.float() - self._tokens.to(text.device).float()).abs().amax(dim=(1, 2))
        return [row for row, value in enumerate(distance.tolist()) if value < _SAME]

    def _sides(self, places: int) -> tuple[int, int]:
        """Height and width of a smaller map with this number of positions."""
        height, width = self._size
        shrink = sqrt(height * width / places)
        return round(height / shrink), round(width / shrink)
