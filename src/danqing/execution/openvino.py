"""Networks by OpenVINO, Intel's runtime for CPUs: exported once, kept on disk, compiled for each shape.

OpenVINO's `convert_model` sends usage statistics over the internet unless that is turned off. So this module
calls the front end for PyTorch directly, which sends nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from danqing.core.errors import DanqingError
from danqing.execution.call import Call, TensorModule
from danqing.execution.executor import Program
from danqing.execution.exports import export_key, exports_folder, make_room, touch
from danqing.weights.pretrained import replacing_folder

_GRAPH, _COMPILED = "network.xml", "compiled"


class OpenVino:
    """The backends `openvino` and `openvino-bf16`. They need memory for a second copy of the weights.

    precision: the precision of the computation, "f32" or "bf16".
    """

    def __init__(self, name: str, precision: str, tolerance: float) -> None:
        import openvino

        self.name, self.tolerance, self._precision = name, tolerance, precision
        self.label = f"{name} {openvino.__version__.split('-')[0]}"

    @cached_property
    def _core(self) -> Any:
        import openvino

        return openvino.Core()

    def program(self, network: nn.Module, call: Call) -> Program:
        """See `Backend.program`. The program uses as many threads as PyTorch."""
        place = exports_folder() / export_key(network, self.label, call.signature)
        try:
            if not (place / _GRAPH).is_file():
                with replacing_folder(place) as draft:
                    self._export(network, call, draft)
                make_room(place.parent)
        except DanqingError:  # the disk is full, or cannot be written
            with TemporaryDirectory() as folder:
                self._export(network, call, Path(folder))
                return self._compile(Path(folder), call, keep=False)
        touch(place)
        return self._compile(place, call, keep=True)

    def _export(self, network: nn.Module, call: Call, folder: Path) -> None:
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of values that are constant for every call
            decoder = TorchScriptPythonDecoder(TensorModule(network, call).eval(), example_input=call.tensors)
            front_end = FrontEndManager().load_by_framework("pytorch")
            model = front_end.convert(front_end.load(decoder))
        openvino.save_model(model, folder / _GRAPH, compress_to_fp16=False)

    def _compile(self, folder: Path, call: Call, *, keep: bool) -> Program:
        """Compile the export in `folder` for the shapes of the call.

        keep: whether to cache the compiled model in the same folder.
        """
        model = self._core.read_model(folder / _GRAPH)
        model.reshape({index: list(shape) for index, shape in enumerate(call.shapes)})
        options = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # pinned threads would compete with other programs
            **({"CACHE_DIR": str(folder / _COMPILED)} if keep else {}),
        }
        request = self._core.compile_model(model, "CPU", options).create_infer_request()

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            outputs = request.infer([tensor.contiguous().numpy() for tensor in tensors], share_inputs=True)
            return [torch.from_numpy(value) for value in outputs.values()]

        return run
