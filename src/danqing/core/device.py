"""Which processor paints."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from danqing.core.errors import BadBrief, shorten

if TYPE_CHECKING:  # importing it takes a second, and the command line wants the name below only
    import torch

ENVIRONMENT = "DANQING_DEVICE"


def chosen_device(name: str | None = None) -> torch.device:
    """The device called `wish`: "auto", "cpu", "cuda", "cuda:1" or "mps"; None asks the environment first.

    "auto" is the first CUDA GPU if this PyTorch sees one, else the CPU.

    Raises:
        BadBrief: it is no name of a device, or not there.
    """
    import torch

    chosen = name or os.environ.get(ENVIRONMENT) or "auto"
    if chosen == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(chosen)
    except RuntimeError:
        raise BadBrief(f"unknown device {shorten(chosen)!r}: use auto, cpu, cuda, cuda:1 or mps") from None
    if not _there(device):
        raise BadBrief(f"device {chosen!r} is not there, as this PyTorch sees it: leave it out, or use cpu")
    return device


def _there(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or (device.type == "mps" and torch.backends.mps.is_available())
