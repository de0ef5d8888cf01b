"""Changes of a painter's network for one run: seamless borders, or a cache of deep features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from danqing.core.errors import BadBrief
from danqing.core.painter import Conditioning
from danqing.diffusion.guidance import Network
from danqing.nets.seamless import seamless


@runtime_checkable
class CacheableNetwork(Protocol):
    """A network that can reuse features of an earlier call."""

    def with_cache(self, interval: int) -> Network:
        """The network for one run, in which one of `interval` calls is a full pass."""
        ...


def check_cache(network: object, interval: int, model: str) -> None:
    """Check that a network can reuse features; an interval of 1 needs no cache.

    Raises:
        BadBrief: it cannot.
    """
    if interval > 1 and not isinstance(network, CacheableNetwork):
        raise BadBrief(f"model {model!r} has no UNet whose features can be reused: leave cache_interval out")


def with_cache(network: Network, interval: int, model: str) -> Network:
    """The network for one run, in which one of `interval` calls is a full pass; unchanged for 1.

    Raises:
        BadBrief: the network cannot reuse features.
    """
    check_cache(network, interval, model)
    return network.with_cache(interval) if interval > 1 and isinstance(network, CacheableNetwork) else network


def with_seamless_borders(network: Network, modules: Iterable[nn.Module]) -> Network:
    """The network with seamless borders in all convolutions of `modules`."""
    parts = tuple(modules)

    def output(x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        with seamless(*parts):
            return network(x, t, conditioning)

    return output
