"""IP-Adapter: image prompts by decoupled cross-attention (arXiv 2308.06721).

Each cross-attention layer of the UNet gets a second pair of key and value projections, for a few tokens of
the picture. They are attached by hooks, so that the UNet itself does not change.
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
    """The cross-attention layers of a UNet, in the order of their numbers in files of IP-Adapters."""
    return [module for name, module in unet.named_modules() if name.endswith("attn2")]


def layers_in(unet: nn.Module, place: str) -> frozenset[int]:
    """The indices in `word_attention` of the layers in a part of the UNet.

    place: the name of the part, such as up_blocks.0.attentions.1.
    """
    names = [name for name, _ in unet.named_modules() if name.endswith("attn2")]
    return frozenset(k for k, name in enumerate(names) if name.startswith(f"{place}."))


class IPAdapter(nn.Module):
    """The weights of an IP-Adapter.

    projection: output of an image encoder -> tokens [n k d].
    keys, values: for each cross-attention layer, tokens [n k d] -> [n k c].
    """

    def __init__(self, projection: nn.Module, attention: Sequence[Attention]) -> None:
        super().__init__()
        self.projection = projection
        sides = [(layer.to_k.in_features, layer.to_k.out_features) for layer in attention]
        self.keys = nn.ModuleList(nn.Linear(*side, bias=False) for side in sides)
        self.values = nn.ModuleList(nn.Linear(*side, bias=False) for side in sides)

    @property
    def reads_patches(self) -> bool:
        """Whether its input is the encoder's states of all patches, and not the one image embedding."""
        return not isinstance(self.projection, ImageProjection)


class PicturePrompt(NamedTuple):
    """An image prompt for one call of a UNet.

    adapter: the weights that read it.
    tokens: the tokens of the picture [n k d].
    strength: the factor of its attention output.
    layers: indices in `word_attention` of the layers that read it; None means all.
    """

    adapter: IPAdapter
    tokens: Tensor
    strength: float
    layers: frozenset[int] | None = None


@contextmanager
def looking_at(unet: nn.Module, prompts: Sequence[PicturePrompt]) -> Iterator[None]:
    """A context in which the UNet attends to image prompts; their outputs are added."""
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
    """A context in which one layer adds its attention to image prompts before its output projection.

    prompts: for each prompt key and value projections, tokens and strength.
    """
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
