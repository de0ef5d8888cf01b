"""A run: steps counted in a folder, where an interrupted one goes on bit-equal."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image

from danqing.core.device import resolve_device
from danqing.core.files import atomic_write
from danqing.core.needs import Needs, check_room, peak_memory
from danqing.core.progress import Progress, ProgressCallback
from danqing.training.checkpoint import RunPosition
from danqing.training.log import Log
from danqing.training.processes import Processes


@dataclass(frozen=True)
class RunOptions:
    """How long to train, and how often to write what. Periods are in steps.

    steps: the learning rate falls until the last of them.
    further: how many more steps to train at the last learning rate.
    batch: pictures in a step, over all processes.
    device: where to train, see `core.device.resolve_device`.
    says_needs: whether to say after some steps what all of them need; see `core.needs`.
    """

    steps: int
    batch: int = 32
    seed: int = 0
    device: str = "auto"
    save_every: int = 500
    sheet_every: int = 500
    log_every: int = 50
    further: int = 0
    says_needs: bool = True

    @property
    def last(self) -> int:
        """The number of all steps."""
        return self.steps + self.further


class Shows(Protocol):
    """A network that can show on a picture how well it does."""

    def sheet(self) -> Image.Image:
        """The same inputs every time."""
        ...


class Run(ABC):
    """The loop of a training in a folder, which holds `checkpoint/`, `log.csv` and `sheets/`."""

    def __init__(self, pace: RunOptions, folder: Path) -> None:
        self.processes = Processes(resolve_device(pace.device))
        self.run = self.processes.shared_folder(folder)
        self._pace = pace
        self._at = RunPosition(0, 0.0)

    def _loop(self, progress: ProgressCallback, look: Callable[[int], None] | None) -> None:
        """From the last checkpoint to the last step; `progress` and `look` as in `Trainer.train`."""
        self.processes.wait()  # until nobody writes a checkpoint any more
        self._resume()
        pace, writes = self._pace, self.processes.writes
        first = self._at.step
        disk = 2 * self._checkpoint_size()  # the one before stays until the new one stands
        if first < pace.last:
            check_room(self.run, disk)
        log = Log(self.run / "log.csv", first, pace.last, pace.batch, progress)
        started = time.monotonic() - self._at.seconds
        for step in range(first, pace.last):
            before = time.monotonic()
            losses = self._step(step)
            now = time.monotonic()
            self._at = RunPosition(step + 1, now - started)
            if not writes:
                continue
            if step == first + 1 and pace.says_needs:  # the first one also prepares
                memory = peak_memory(self.processes.device)
                needs = Needs((now - before) * (pace.last - step), memory, disk)
                progress(Progress(note=f"this training needs {needs}"))
            log.add(step + 1, losses, every=pace.log_every)
            if self._due(step + 1, pace.sheet_every):
                self._sheet(step + 1, look)
            if self._due(step + 1, pace.save_every):
                self._save()
        self.processes.wait()

    @abstractmethod
    def ema_scope(self) -> AbstractContextManager[Shows]:
        """What is trained with its averaged weights in place; the trained ones come back afterwards."""

    @abstractmethod
    def _step(self, step: int) -> dict[str, float]:
        """Learn from one batch, a function of the weights, the seed and `step` alone; the losses to log."""

    @abstractmethod
    def _resume(self) -> None:
        """Go back to the last checkpoint, if there is one."""

    @abstractmethod
    def _save(self) -> None:
        """Write a checkpoint."""

    @abstractmethod
    def _checkpoint_size(self) -> int:
        """Bytes of a checkpoint."""

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self._pace.last

    def _sheet(self, step: int, look: Callable[[int], None] | None) -> None:
        with self.ema_scope() as trained, torch.no_grad():
            picture = trained.sheet()
            if look is not None:
                look(step)
        with atomic_write(self.run / "sheets" / f"{step:07d}.png") as draft:
            picture.save(draft, "PNG")
