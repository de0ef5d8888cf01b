"""The names of backends, without importing PyTorch."""

from __future__ import annotations

from danqing.core.errors import BadBrief, unknown

BACKENDS = {
    "auto": "the fastest that is installed and proven on this processor",
    "eager": "PyTorch itself, which paints the same bytes everywhere that it is the default",
    "openvino": "OpenVINO in float32",
    "openvino-bf16": "OpenVINO in bfloat16, on processors that have it",
    "compile": "torch.compile, for processes that paint for long",
}
"""Name of a backend -> its description."""


def check_backend(name: str) -> None:
    """Raise BadBrief if there is no backend of that name."""
    if name not in BACKENDS:
        raise BadBrief(unknown("backend", name, BACKENDS))
