"""Which processor paints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from danqing.core.errors import BadBrief, shorten

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
SHORT_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}


def resolve_device(name: str = "auto") -> torch.device:
    """The device called `name`: "auto", "cpu", "cuda", "cuda:1" or "mps".

    "auto" is the first CUDA GPU if this PyTorch sees one, else the CPU.

    Raises:
        BadBrief: `name` is not a device, or this machine does not have it.
    """
    check_device_name(name)
    import torch

    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if not _there(device):
        raise BadBrief(f"device {name!r} is not there, as this PyTorch sees it: leave it out, or use cpu")
    return device


def check_device_name(name: str) -> None:
    """Raise BadBrief where `name` cannot be the name of a device. Needs no torch."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name) is None:
        raise BadBrief(f"unknown device {shorten(name)!r}: use auto, cpu, cuda, cuda:1 or mps")


def _there(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or (device.type == "mps" and torch.backends.mps.is_available())


def resolve_dtype(name: str | None) -> torch.dtype | None:
    """The dtype called `name`, one of `DTYPES` or a short form of one; None for None.

    Raises:
        BadBrief: `name` is none of them.
    """
    import torch

    if name is None:
        return None
    whole = SHORT_DTYPES.get(name, name)
    if whole not in DTYPES:
        raise BadBrief(f"unknown dtype {shorten(name)!r}: use float32, bf16 or fp16")
    dtype = getattr(torch, whole)
    assert isinstance(dtype, torch.dtype)
    return dtype
