"""Whether a network is still what it was when a program was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class _Weight:
    """A weight where it hangs, with its place in memory and how often it had been written to."""

    owner: dict[str, Any]
    name: str
    tensor: Tensor
    address: int
    version: int

    def is_unchanged(self) -> bool:
        tensor = self.owner[self.name]
        if tensor is not self.tensor:
            return False
        return bool(tensor._version == self.version and tensor.data_ptr() == self.address)


class Snapshot:
    """What a network is at one moment: weights, hooks, borders, forwards. It keeps no reference to it.

    An adapter adds hooks, `seamless` changes the borders of convolutions, `FeatureCache` what blocks compute,
    training writes to weights: a program that was made before knows nothing of them. To look takes some tens
    of microseconds.
    """

    def __init__(self, network: nn.Module) -> None:
        modules = list(network.modules())
        stores = [store for module in modules for store in (module._parameters, module._buffers)]
        self._weights = [
            _Weight(store, name, tensor, tensor.data_ptr(), tensor._version)
            for store in stores
            for name, tensor in store.items()
            if tensor is not None
        ]
        self._forwards = [(vars(module), vars(module).get("forward")) for module in modules]
        self._hooks = [hooks for module in modules for hooks in _hooks_of(module)]
        self._padded = [(module, module.padding_mode) for module in modules if isinstance(module, nn.Conv2d)]

    def holds(self) -> bool:
        """Whether the network is unchanged and nothing listens inside it."""
        return (
            not any(self._hooks)
            and all(own.get("forward") is forward for own, forward in self._forwards)
            and all(module.padding_mode == mode for module, mode in self._padded)
            and all(weight.is_unchanged() for weight in self._weights)
        )


def _hooks_of(module: nn.Module) -> tuple[Any, Any]:
    return module._forward_hooks, module._forward_pre_hooks
