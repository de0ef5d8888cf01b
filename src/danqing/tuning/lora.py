"""Low-rank changes to a network's layers (LoRA, Hu et al., arXiv 2106.09685), attached by forward hooks.

Eq. 3: the layer x -> W x becomes x -> W x + alpha / r * up (down x). A convolution's `down` has its kernel,
stride and padding, and its `up` is 1 x 1. W itself is never modified, so that removing a change restores
every bit, and several changes simply add up.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from danqing.core.errors import BadWeights
from danqing.weights.ldm_keys import Table, rename, unet_table
from danqing.weights.tensor_files import printable

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
RESNETS = ("conv1", "conv2")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")
SMALL = 256  # width of the widest layer in the shipped painter, on which learning rates were measured

Layer = nn.Linear | nn.Conv2d


class Change(Protocol):
    """The change of one layer in a file: `Factors`, or a `weight_changes.WeightChange`."""

    def __call__(self, layer: Layer, x: Tensor) -> Tensor:
        """The term to add to the layer's output for its input x."""
        ...

    def reshape_for(self, layer: Layer) -> Self:
        """The same change with the number of dimensions of the layer's weight."""
        ...

    def fits(self, layer: Layer) -> bool:
        """Whether the change fits the shape of the layer's weight."""
        ...

    def changes(self) -> tuple[int, ...]:
        """The shape of the weight that it changes."""
        ...


C = TypeVar("C", bound=Change)
Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Factors:
    """The change of one layer.

    down: [r in], or [r in k k] of a convolution.
    up: [out r], or [out r 1 1].
    alpha: the change is scaled by alpha / r.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """The rank, r in the paper."""
        return self.down.shape[0]

    def __call__(self, layer: Layer, x: Tensor) -> Tensor:
        """The term to add to the layer's output for its input x."""
        down, up = self.down.to(x), self.up.to(x)
        if isinstance(layer, nn.Linear):
            change = F.linear(F.linear(x, down), up)
        else:  # also with the layer's padding mode, which seamless painting changes
            change = F.conv2d(layer._conv_forward(x, down, None), up)
        return change * (self.alpha / self.rank)

    def reshape_for(self, layer: Layer) -> Factors:
        """The same factors for a weight of the layer's dimensions; a 1 x 1 convolution counts as linear."""
        extra = layer.weight.ndim - self.down.ndim
        if extra == 2:
            return Factors(self.down[..., None, None], self.up[..., None, None], self.alpha)
        if extra == -2 and self.down.shape[2:] == (1, 1):
            return Factors(self.down[..., 0, 0], self.up[..., 0, 0], self.alpha)
        return self

    def fits(self, layer: Layer) -> bool:
        """Whether the change fits the shape of the layer's weight."""
        return self.changes() == tuple(layer.weight.shape) and self.up.shape[1] == self.rank

    def changes(self) -> tuple[int, ...]:
        """The shape of the weight that it changes."""
        return (self.up.shape[0], *self.down.shape[1:])


def flat_name(name: str) -> str:
    """A layer's name as in kohya's files: `unet.mid_block.attentions.0` -> `unet.mid_block_attentions_0`."""
    network, _, path = name.partition(".")
    return f"{network}.{path.replace('.', '_')}"


def layers_of(networks: Mapping[str, nn.Module]) -> dict[str, Layer]:
    """All layers that can be changed, by network and path: `unet.mid_block.attentions.0.proj_in`."""
    return {
        f"{network}.{path}": layer
        for network, module in networks.items()
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }


def fit_factors(
    networks: Mapping[str, nn.Module], changes: Mapping[str, C], whose: str
) -> Iterator[tuple[str, Layer, C]]:
    """For each of `changes`: the layer's own name, the layer, and the change in the layer's shape.

    A few layers that these networks lack, as those of a deeper text encoder, are skipped with a warning.

    Raises:
        BadWeights: a layer has another shape, or a network or more than half of the layers are missing.
    """
    layers = _layers_by_name(networks)
    lacking = [target for target in changes if flat_name(target) not in layers]
    if lacking:
        _check_lacking(lacking, changes, networks, whose)
    for target, change in changes.items():
        if flat_name(target) not in layers:
            continue
        name, layer = layers[flat_name(target)]
        shaped = change.reshape_for(layer)
        if not shaped.fits(layer):
            raise BadWeights(
                f"adapter {whose!r} is for another model: it changes {name} of shape "
                f"{list(shaped.changes())}, this model's is {list(layer.weight.shape)}"
            )
        yield name, layer, shaped


def _layers_by_name(networks: Mapping[str, nn.Module]) -> dict[str, tuple[str, Layer]]:
    """All layers by the names that adapter files use for them; see `flat_name`."""
    layers = layers_of(networks)
    named = {flat_name(name): (name, layer) for name, layer in layers.items()}
    tables = {name: table for name, network in networks.items() if (table := _original_names(network))}
    for name, layer in layers.items():
        network, _, path = name.partition(".")
        if path.startswith("text_model."):
            named[flat_name(f"{network}.{path.removeprefix('text_model.')}")] = name, layer
        if network in tables:
            with suppress(KeyError):  # the original code has no such layer
                named.setdefault(flat_name(f"{network}.{rename(tables[network], path)}"), (name, layer))
    return named


def _original_names(network: nn.Module) -> Table:
    """The names of a UNet's modules in the original code; empty for other networks."""
    if not isinstance(network, UNet2DConditionModel) or not isinstance(network.config.layers_per_block, int):
        return {}
    return unet_table(dict(network.config))


def _check_lacking(
    lacking: Sequence[str], changes: Mapping[str, Any], networks: Mapping[str, nn.Module], whose: str
) -> None:
    first = lacking[0]
    if len(lacking) * 2 > len(changes) or any(name.partition(".")[0] not in networks for name in lacking):
        raise BadWeights(
            f"adapter {whose!r} is for another model: it changes {printable(first)} of shape "
            f"{list(changes[first].changes())}, which this model lacks"
        )
    warnings.warn(
        f"adapter {whose!r}: {len(changes) - len(lacking)} of {len(changes)} layers are used; this model "
        f"lacks {printable(first)}{' and others' * (len(lacking) > 1)}",
        RuntimeWarning,
        stacklevel=3,
    )


def addition_hook(factors: Change, weight: float) -> Hook:
    """A forward hook that adds `weight` times the change."""

    def add(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        return output + weight * factors(layer, args[0])

    return add


def new_factors(
    networks: Mapping[str, nn.Module], endings: Mapping[str, tuple[str, ...]], rank: int, seed: int
) -> dict[str, Factors]:
    """Untrained factors, which change nothing yet: `down` random, `up` zero, alpha = rank.

    endings: network name -> endings of the paths of the layers to train, such as `ATTENTION`.
    rank: is reduced to the smaller side of a layer if necessary.
    """
    rng = torch.Generator().manual_seed(seed)
    made = {}
    for name, layer in layers_of(networks).items():
        network, _, path = name.partition(".")
        if any(f".{path}".endswith(f".{ending}") for ending in endings.get(network, ())):
            made[name] = _fresh_factors(layer, rank, rng)
    return made


def learning_rate_share(factors: Mapping[str, Factors]) -> float:
    """The factor, in (0, 1], that scales a learning rate measured on the shipped painter to these factors.

    It falls with the square of the widest layer: the 3e-3 of a painter of 256 becomes 1.2e-4 for the 1280 of
    Stable Diffusion, where 1e-4 is usual.
    """
    widest = max((change.up.shape[0] for change in factors.values()), default=SMALL)
    return min(1.0, (SMALL / widest) ** 2)


def _fresh_factors(layer: Layer, rank: int, rng: torch.Generator) -> Factors:
    out, *inner = layer.weight.shape
    rank = min(rank, out, math.prod(inner))
    bound = 1 / math.sqrt(math.prod(inner))
    down = (torch.rand(rank, *inner, generator=rng) * 2 - 1) * bound
    up = torch.zeros(out, rank, *(1,) * (len(inner) - 1))
    device = layer.weight.device
    return Factors(nn.Parameter(down.to(device)), nn.Parameter(up.to(device)), float(rank))
