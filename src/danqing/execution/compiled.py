"""The backend `compile`: networks by torch.compile. It starts slowly and suits long-running processes."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from danqing.core.errors import DanqingError
from danqing.core.files import atomic_write
from danqing.execution.call import Call, TensorModule
from danqing.execution.executor import Program
from danqing.execution.exports import export_key, exports_folder, make_room, touch

_ARTIFACTS = "artifacts"


class Compiled:
    """The backend `compile`. Compiled kernels are cached on disk; each process traces networks anew."""

    name = "compile"

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.label = f"compile {torch.__version__}"

    def program(self, network: nn.Module, call: Call) -> Program:
        """See `Backend.program`."""
        key = export_key(network, self.label, call.signature, call.shapes)
        artifacts = exports_folder() / key / _ARTIFACTS
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about the compiler's own code
            kept = artifacts.is_file()
            if kept:
                torch.compiler.load_cache_artifacts(artifacts.read_bytes())
                touch(artifacts.parent)
            run = torch.compile(TensorModule(network, call).eval())
            run(*call.tensors)  # the first run compiles
            if not kept:
                _keep(artifacts)
        return lambda tensors: list(run(*tensors))


def _keep(artifacts: Path) -> None:
    made = torch.compiler.save_cache_artifacts()
    if made is not None:
        with suppress(DanqingError), atomic_write(artifacts) as draft:
            draft.write_bytes(made[0])
        make_room(artifacts.parent.parent)
