"""A GPU that is not there: tensors that know their shape and device only, so that mixing devices is an error.

PyTorch's fake tensors compute nothing; what a program asks of their values is made up.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("lazy:0")  # the only kind whose calls any build of PyTorch lets pass
_VALUE = torch.ops.aten._local_scalar_dense.default


aten = torch.ops.aten
_MAY_MIX = {  # copies between devices, and indices on the CPU, as CUDA takes them
    aten._to_copy.default,
    aten.copy_.default,
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
}


def _check_devices(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """All tensors of an operation lie on one device; those of one number may lie on the CPU.

    FakeTensorMode checks it for most operations, but not for convolutions, embeddings and some norms.
    """
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    devices = {tensor.device for tensor in tensors if tensor.ndim or tensor.device.type != "cpu"}
    if func not in _MAY_MIX and len(devices) > 1:
        raise RuntimeError(f"{func} expects all tensors on the same device, not {sorted(map(str, devices))}")


class _Answering(TorchDispatchMode):
    """Checks devices, and answers questions about values: yes, one, or any number between 0.1 and 0.9."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = random.Random(0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        _check_devices(func, args, kwargs or {})
        if func is _VALUE:
            return self._rng.uniform(0.1, 0.9) if args[0].is_floating_point() else 1
        if func is torch.ops.aten.allclose.default:
            return True
        return func(*args, **(kwargs or {}))


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    """Within the block new tensors are fake, and `Module.to(GPU)` takes weights to that GPU."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def moved(tensor: Tensor, device: torch.device) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor.to(device)
        return FakeTensor(mode, tensor.detach().to("meta"), device)

    def to(module: nn.Module, *where: Any, **_how: Any) -> nn.Module:
        device = next((place for place in where if isinstance(place, torch.device)), None)
        if device is None:
            return module
        for part in module.modules():
            for name, weight in part._parameters.items():
                if weight is not None:
                    part._parameters[name] = nn.Parameter(moved(weight, device), weight.requires_grad)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = moved(buffer, device)
        return module

    with monkeypatch.context() as patch, mode, _Answering(), torch.no_grad():
        patch.setattr(nn.Module, "to", to)
        yield mode
