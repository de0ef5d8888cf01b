"""A painter's network as one painting needs it: with seamless borders, or with features that are reused."""

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
    """A network that can reuse features from one call to the next."""

    def with_cache(self, interval: int) -> Network:
        """The network for one painting, where one of `interval` calls is a full pass."""
        ...


def check_cache(network: object, interval: int, model: str) -> None:
    """Say in one line that a network cannot reuse features; an interval of 1 asks for nothing.

    Raises:
        BadBrief: it cannot.
    """
    if interval > 1 and not isinstance(network, CacheableNetwork):
        raise BadBrief(f"model {model!r} has no UNet whose features can be reused: leave cache_interval out")


def with_cache(network: Network, interval: int, model: str) -> Network:
    """The network for one painting, where one of `interval` calls is a full pass; itself for 1.

    Raises:
        BadBrief: it cannot.
    """
    check_cache(network, interval, model)
    return network.with_cache(interval) if interval > 1 and isinstance(network, CacheableNetwork) else network


def with_seamless_borders(network: Network, modules: Iterable[nn.Module]) -> Network:
    """The network with the borders of a picture that tiles, in all of `modules`."""
    parts = tuple(modules)

    def output(x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        with seamless(*parts):
            return network(x, t, conditioning)

    return output
