"""What the calls of one network run instead of its forward, wherever that gives the same."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from danqing.core.errors import shorten
from danqing.execution.call import Call, plain_call, put_together, relative_difference, take_apart
from danqing.execution.pristine import Snapshot

Program = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""The tensors of a call -> those of the output."""

EAGER = "eager"


class Backend(Protocol):
    """Makes programs of networks.

    name: by which people choose it.
    label: with what it computes, for the metadata: its name and version.
    tolerance: how much a program may differ from eager, see `relative_difference`.
    """

    name: str
    label: str
    tolerance: float

    def program(self, network: nn.Module, call: Call) -> Program:
        """What computes this call of the network, and others of the same signature and shapes.

        Raises:
            Exception: of whatever kind, where the network cannot be made a program.
        """
        ...


@dataclass(frozen=True)
class _Proven:
    """A program that gave the same as eager. form: of its output, see `take_apart`."""

    program: Program
    form: Any


class Executor:
    """Runs the calls of a network by a backend, and by PyTorch itself what the backend cannot.

    Each program is compared with eager on its first call, and never used if it differs. A network that has
    been changed (adapters, seamless borders, training), a call that needs gradients and one off the CPU are
    eager's. `route` tells which of them ran, for the metadata.
    """

    def __init__(self, network: nn.Module, name: str, backend: Backend) -> None:
        self.name, self.backend = name, backend
        self.routes: set[str] = set()
        self._network = weakref.ref(network)  # which holds this executor
        self._snapshot = Snapshot(network)
        self._programs: dict[object, _Proven | None] = {}
        self._lock = Lock()

    def __call__(self, *args: Any, **named: Any) -> Any:
        """What the network answers."""
        network = self._network()
        assert network is not None, "it is this network's call"
        if not torch.is_grad_enabled() and self._snapshot.holds():
            call = Call.of(args, named)
            if all(type(tensor) is Tensor and tensor.device.type == "cpu" for tensor in call.tensors):
                return self._run(network, call, args, named)
        self.routes.add(EAGER)
        return plain_call(network, args, named)

    def _run(self, network: nn.Module, call: Call, args: Any, named: Any) -> Any:
        key = (call.signature, call.shapes)
        with self._lock:
            if key not in self._programs:
                self._programs[key] = self._prove(network, call)
            proven = self._programs[key]
            if proven is not None:
                self.routes.add(self.backend.label)
                return put_together(proven.program(call.tensors), proven.form)
        self.routes.add(EAGER)
        return plain_call(network, args, named)

    def _prove(self, network: nn.Module, call: Call) -> _Proven | None:
        """A program that agrees with eager on this call; None, with a warning, where there is none."""
        args, named = call.arguments(call.tensors)
        output = plain_call(network, args, named)
        expected, form = take_apart(output)
        try:
            if not isinstance(output, Tensor | tuple):
                raise TypeError(f"it gives a {type(output).__name__}")
            program = self.backend.program(network, call)
            difference = relative_difference(program(call.tensors), expected)
        except Exception as error:  # whatever a library happens to stumble over
            reason = shorten(" ".join(str(error).split()) or type(error).__name__, 120)
            warnings.warn(
                f"{self.backend.name} cannot run {self.name} ({reason}): eager does it", stacklevel=2
            )
            return None
        if not difference <= self.backend.tolerance:
            share, limit = f"{difference:.2g}", f"{self.backend.tolerance:g} is allowed"
            message = f"{self.backend.name} differs in {self.name} by {share} of the output, where {limit}"
            warnings.warn(f"{message}: eager does it", stacklevel=2)
            return None
        return _Proven(program, form)
