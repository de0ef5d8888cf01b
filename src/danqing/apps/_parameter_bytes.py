"""The memory of the networks of an open model. Imports torch only when a function is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def parameter_bytes(model: object) -> int:
    """Bytes of the parameters and buffers of all networks in `model`."""
    tensors = {id(t): t for module in networks_of(model) for t in (*module.parameters(), *module.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def networks_of(model: object) -> Iterator[nn.Module]:
    """All networks in an object, also inside of dataclasses, mappings and sequences."""
    from torch import nn

    if isinstance(model, nn.Module):
        yield model
        return
    inside: list[object] = []
    if isinstance(model, Mapping):
        inside = list(model.values())
    elif isinstance(model, list | tuple):
        inside = list(model)
    elif is_dataclass(model) or type(model).__module__.startswith("danqing."):
        inside = list(getattr(model, "__dict__", {}).values())
    for value in inside:
        yield from networks_of(value)
