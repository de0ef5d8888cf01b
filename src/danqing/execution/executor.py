"""Runs the calls of one network by a backend, where its output agrees with eager PyTorch."""

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
"""The tensors of a call -> the tensors of the output."""

EAGER = "eager"


class Backend(Protocol):
    """Compiles networks into programs.

    name: the name by which users choose it.
    label: name and version, for the metadata.
    tolerance: the largest difference of a program from eager, see `relative_difference`.
    """

    name: str
    label: str
    tolerance: float

    def program(self, network: nn.Module, call: Call) -> Program:
        """Compile a program for this call and for others of the same signature and shapes.

        Raises:
            Exception: of any class, if the backend cannot compile the network.
        """
        ...


@dataclass(frozen=True)
class _Proven:
    """A program whose output agreed with eager.

    form: the form of its output, see `take_apart`.
    """

    program: Program
    form: Any


class Executor:
    """Runs the calls of a network by a backend, and by eager PyTorch where the backend cannot.

    Each program is compared with eager at its first call, and is not used if it differs. Eager also runs a
    network that was changed (adapters, seamless borders, training), calls that need gradients and calls that
    are not on the CPU. `routes` holds what has run, for the metadata.
    """

    def __init__(self, network: nn.Module, name: str, backend: Backend) -> None:
        self.name, self.backend = name, backend
        self.routes: set[str] = set()
        self._network = weakref.ref(network)  # weak, because the network refers to this executor
        self._snapshot = Snapshot(network)
        self._programs: dict[object, _Proven | None] = {}
        self._lock = Lock()

    def __call__(self, *args: Any, **named: Any) -> Any:
        """The output of the network."""
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
        """Compile a program and compare it with eager on this call; None, with a warning, if that fails."""
        args, named = call.arguments(call.tensors)
        output = plain_call(network, args, named)
        expected, form = take_apart(output)
        try:
            if not isinstance(output, Tensor | tuple):
                raise TypeError(f"it gives a {type(output).__name__}")
            program = self.backend.program(network, call)
            difference = relative_difference(program(call.tensors), expected)
        except Exception as error:  # compilers raise exceptions of many classes
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
