"""IP-Adapter: a picture as a prompt, by attention of its own beside that to the words (arXiv 2308.06721).

Each layer of the UNet that reads words gets a second pair of keys and values, which read a few tokens of the
picture. It is attached by hooks, so that the UNet is the very same afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import ImageProjection
from torch import Tensor, nn

from danqing.nets.placement import as_input


def word_attention(unet: nn.Module) -> list[Attention]:
    """The layers of a UNet that read words, in the order in which the files of IP-Adapters number them."""
    return [module for name, module in unet.named_modules() if name.endswith("attn2")]


def layers_in(unet: nn.Module, place: str) -> frozenset[int]:
    """Which of `word_attention` lie in a part of the UNet, as up_blocks.0.attentions.1."""
    names = [name for name, _ in unet.named_modules() if name.endswith("attn2")]
    return frozenset(k for k, name in enumerate(names) if name.startswith(f"{place}."))


class IPAdapter(nn.Module):
    """The weights of an IP-Adapter.

    projection: what an image encoder makes of pictures -> tokens [n k d].
    keys, values: for each layer that reads words, tokens [n k d] -> [n k c].
    """

    def __init__(self, projection: nn.Module, attention: Sequence[Attention]) -> None:
        super().__init__()
        self.projection = projection
        sides = [(layer.to_k.in_features, layer.to_k.out_features) for layer in attention]
        self.keys = nn.ModuleList(nn.Linear(*side, bias=False) for side in sides)
        self.values = nn.ModuleList(nn.Linear(*side, bias=False) for side in sides)

    @property
    def reads_patches(self) -> bool:
        """Whether it reads the encoder's states of all patches, and not its one vector for the picture."""
        return not isinstance(self.projection, ImageProjection)


class PicturePrompt(NamedTuple):
    """A picture that a UNet shall look at in one call.

    tokens: of the picture [n k d].
    strength: how much they count.
    layers: which of `word_attention` look; None is all.
    """

    adapter: IPAdapter
    tokens: Tensor
    strength: float
    layers: frozenset[int] | None = None


@contextmanager
def looking_at(unet: nn.Module, prompts: Sequence[PicturePrompt]) -> Iterator[None]:
    """Within it, the UNet looks at pictures, which add up."""
    with ExitStack() as stack:
        for k, layer in enumerate(word_attention(unet) if prompts else ()):
            own = [
                (prompt.adapter.keys[k], prompt.adapter.values[k], prompt.tokens, prompt.strength)
                for prompt in prompts
                if prompt.layers is None or k in prompt.layers
            ]
            stack.enter_context(_attending(layer, own))
        yield


@contextmanager
def _attending(
    layer: Attention, prompts: Sequence[tuple[nn.Module, nn.Module, Tensor, float]]
) -> Iterator[None]:
    """Within it, one layer adds what its queries find in the pictures, before its last projection."""
    queries: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        queries.append(output)

    def add(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (states, *others), query = inputs, _heads(queries.pop(), layer.heads)
        for keys, values, tokens, strength in prompts:
            key, value = (_heads(part(as_input(part, tokens)), layer.heads) for part in (keys, values))
            more = F.scaled_dot_product_attention(query, key, value)
            states = states + strength * more.transpose(1, 2).flatten(2).to(states.dtype)
        return (states, *others)

    handles = layer.to_q.register_forward_hook(keep), layer.to_out[0].register_forward_pre_hook(add)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _heads(states: Tensor, heads: int) -> Tensor:
    """[n l c] -> [n heads l c/heads]."""
    return states.reshape(*states.shape[:2], heads, -1).transpose(1, 2)
