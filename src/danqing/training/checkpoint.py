"""Checkpoints: written atomically, read back bit-equal."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from danqing.core.errors import BadWeights, shorten

# exceptions that reading a damaged checkpoint or one of another network can raise
_DAMAGED = (OSError, EOFError, RuntimeError, ValueError, LookupError, SafetensorError, pickle.UnpicklingError)


@dataclass(frozen=True)
class RunPosition:
    """How far a run has come.

    step: number of steps done.
    seconds: time spent on them.
    """

    step: int
    seconds: float


class Stateful(Protocol):
    """An optimiser, or an object that holds several."""

    def state_dict(self) -> dict[str, Any]:
        """The state, as tensors and plain values only."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


def save(folder: Path, network: nn.Module, ema: list[Tensor], optimiser: Stateful, at: RunPosition) -> None:
    """Write weights, EMA weights, optimiser state and position.

    One rename replaces the previous checkpoint.
    """
    draft, old = folder.with_suffix(".part"), folder.with_suffix(".old")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file(_contiguous(network.state_dict()), draft / "weights.safetensors")
    save_file({str(i): t.detach().contiguous() for i, t in enumerate(ema)}, draft / "ema.safetensors")
    torch.save(optimiser.state_dict(), draft / "optimiser.pt")
    (draft / "progress.json").write_text(json.dumps({"step": at.step, "seconds": at.seconds}), "utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, network: nn.Module, optimiser: Stateful) -> tuple[list[Tensor], RunPosition] | None:
    """Restore what `save` wrote. None if there is no checkpoint.

    If a run was killed between the two renames of `save`, only the previous checkpoint is left, under `.old`,
    and it is used.

    Raises:
        BadWeights: the checkpoint belongs to another network or is damaged.
    """
    old = folder.with_suffix(".old")
    if not folder.exists() and old.exists():
        old.rename(folder)
    if not folder.exists():
        return None
    try:
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        optimiser.load_state_dict(torch.load(folder / "optimiser.pt", weights_only=True))
        ema = load_file(folder / "ema.safetensors")
        # clones, since Windows cannot replace a file that is still memory-mapped
        shadow = [ema[str(i)].clone() for i in range(len(ema))]
        progress: dict[str, Any] = json.loads((folder / "progress.json").read_text("utf-8"))
        at = RunPosition(int(progress["step"]), float(progress["seconds"]))
    except _DAMAGED as error:
        reason = shorten(" ".join(str(error).split()) or type(error).__name__, 120)
        raise BadWeights(
            f"checkpoint {str(folder)!r} does not fit this run ({reason}): use another --run"
        ) from None
    return shadow, at


def size_of(tensors: Iterable[Tensor]) -> int:
    """The size of all tensors in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().contiguous().clone() for key, value in state.items()}
