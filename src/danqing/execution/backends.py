"""Chooses a backend, and lets it execute the networks of a painter.

`eager` is the default, so that the picture of a seed does not change when a package is installed. Users
choose another backend by name; the metadata of a picture holds the name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from danqing.core.errors import BadBrief
from danqing.execution.executor import EAGER, Backend, Executor
from danqing.execution.names import check_backend
from danqing.execution.shared import SharedPainter

_FLOAT32, _BFLOAT16 = 1e-3, 5e-2  # tolerances, see `Backend`; differences of 3e-6 and 1.4e-2 were measured


@runtime_checkable
class Executable(Protocol):
    """A painter whose networks a backend may execute."""

    def executables(self) -> Mapping[str, nn.Module]:
        """Name for messages -> network."""
        ...


def open_backend(name: str, device: torch.device, dtype: torch.dtype | None = None) -> Backend | None:
    """The backend called `name`, one of `names.BACKENDS`; None for eager.

    Raises:
        BadBrief: the name is unknown, the package of the backend is missing, or it does not support `device`
            or `dtype`.
    """
    check_backend(name)
    if name == "auto":
        return _automatic(device, dtype)
    return None if name == EAGER else _MAKERS[name](device, dtype)


def execute_with(painter: object, backend: Backend | None) -> None:
    """Let a backend execute the networks of a painter from now on; None means eager."""
    networks = painter.executables() if isinstance(painter, Executable) else {}
    for name, network in networks.items():
        # the attribute that nn.Module.compile sets: a call runs it; copies of the network do not have it
        network._compiled_call_impl = None if backend is None else Executor(network, name, backend)
    if backend is not None and not networks:
        warnings.warn(f"{backend.name} runs no network of this model: eager paints", stacklevel=2)


def forget_routes(painter: object) -> None:
    """Clear the record of what has executed the networks of a painter; see `routes`."""
    for executor in _executors(painter):
        executor.routes.clear()


def routes(painter: object) -> str:
    """What has executed the networks of a painter since `forget_routes`.

    Such as "eager", "eager batched", or "openvino 2026.4, eager: unet" where eager ran some of its calls.
    """
    batched = " batched" if isinstance(painter, SharedPainter) and painter.is_batched else ""
    return _routes(painter) + batched


def _routes(painter: object) -> str:
    used = [executor for executor in _executors(painter) if executor.routes]
    by_backend = sorted({route for executor in used for route in executor.routes if route != EAGER})
    if not by_backend:
        return EAGER
    networks = painter.executables() if isinstance(painter, Executable) else {}
    by_eager = [executor.name for executor in used if EAGER in executor.routes]
    by_eager += [name for name, network in networks.items() if not isinstance(_executor(network), Executor)]
    return ", ".join([*by_backend, *(f"{EAGER}: {name}" for name in by_eager)])


def _executors(painter: object) -> Iterator[Executor]:
    for network in (painter.executables() if isinstance(painter, Executable) else {}).values():
        if isinstance(executor := _executor(network), Executor):
            yield executor


def _executor(network: nn.Module) -> object:
    return network._compiled_call_impl


def _automatic(device: torch.device, dtype: torch.dtype | None) -> Backend | None:
    if device.type != "cpu" or dtype not in (None, torch.float32) or find_spec("openvino") is None:
        return None
    return _openvino("openvino-bf16" if dtype is None and _has_bfloat16() else "openvino", device, dtype)


def _openvino(name: str, device: torch.device, dtype: torch.dtype | None) -> Backend:
    if find_spec("openvino") is None:
        raise BadBrief(f"backend {name!r} needs a package: pip install 'danqing[openvino]', or use eager")
    if device.type != "cpu":
        raise BadBrief(f"backend {name!r} paints on the CPU, not on {device}: use eager, or device cpu")
    if dtype not in (None, torch.float32):
        raise BadBrief(f"backend {name!r} has numbers of its own, not {dtype}: leave dtype out, or use eager")
    from danqing.execution.openvino import OpenVino

    if name == "openvino":
        return OpenVino(name, "f32", _FLOAT32)
    if not _has_bfloat16():
        raise BadBrief(f"backend {name!r} needs a processor with bfloat16, which this is not: use openvino")
    return OpenVino(name, "bf16", _BFLOAT16)


def _has_bfloat16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _compile(device: torch.device, dtype: torch.dtype | None) -> Backend:
    from danqing.execution.compiled import Compiled

    if device.type != "cpu":
        raise BadBrief(f"backend 'compile' is proven on the CPU alone, not on {device}: use eager")
    return Compiled(_FLOAT32 if dtype in (None, torch.float32) else _BFLOAT16)


_MAKERS: dict[str, Callable[[torch.device, torch.dtype | None], Backend]] = {
    "openvino": lambda device, dtype: _openvino("openvino", device, dtype),
    "openvino-bf16": lambda device, dtype: _openvino("openvino-bf16", device, dtype),
    "compile": _compile,
}
