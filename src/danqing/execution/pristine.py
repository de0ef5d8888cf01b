"""Detects whether a network has changed since a program was compiled from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class _Weight:
    """A weight, with its address in memory and its version, which counts in-place changes.

    owner: the dict of its module, in which it has the key `name`.
    """

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
    """The weights, hooks, padding modes and forward methods of a network at one moment.

    It keeps no reference to the network. An adapter adds hooks, `seamless` changes the padding mode of
    convolutions, `FeatureCache` replaces forward methods, training changes weights: a program that was
    compiled before does none of this. A check takes some tens of microseconds.
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
        """Whether the network is unchanged and has no hooks."""
        return (
            not any(self._hooks)
            and all(own.get("forward") is forward for own, forward in self._forwards)
            and all(module.padding_mode == mode for module, mode in self._padded)
            and all(weight.is_unchanged() for weight in self._weights)
        )


def _hooks_of(module: nn.Module) -> tuple[Any, Any]:
    return module._forward_hooks, module._forward_pre_hooks
