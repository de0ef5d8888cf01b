"""The training loop in a run folder, where an interrupted run resumes bit-equal."""

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

    steps: number of steps over which the learning rate falls.
    batch: pictures in a step, over all processes.
    seed: seed of all random choices.
    device: where to train, see `core.device.resolve_device`.
    save_every: period of checkpoints.
    sheet_every: period of sample sheets.
    log_every: period of lines in the log.
    further: how many more steps to train at the last learning rate.
    says_needs: whether to report, after some steps, the time, memory and disk space of the run; see
        `core.needs`.
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
        """The total number of steps."""
        return self.steps + self.further


class Shows(Protocol):
    """A network that can show its quality in a picture."""

    def sheet(self) -> Image.Image:
        """A sample sheet on fixed inputs."""
        ...


class Run(ABC):
    """The loop of a training in a folder, which holds `checkpoint/`, `log.csv` and `sheets/`."""

    def __init__(self, pace: RunOptions, folder: Path) -> None:
        self.processes = Processes(resolve_device(pace.device))
        self.run = self.processes.shared_folder(folder)
        self._pace = pace
        self._at = RunPosition(0, 0.0)

    def _loop(self, progress: ProgressCallback, look: Callable[[int], None] | None) -> None:
        """Train from the last checkpoint to the last step.

        `progress` and `look` are as in `Trainer.train`.
        """
        self.processes.wait()  # another process may still write a checkpoint
        self._resume()
        pace, writes = self._pace, self.processes.writes
        first = self._at.step
        disk = 2 * self._checkpoint_size()  # the old checkpoint stays on disk until the new one is complete
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
            # the first step is slower, because it also sets things up
            if step == first + 1 and pace.says_needs:
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
        """A context with the averaged weights in place; the trained ones come back when it ends."""

    @abstractmethod
    def _step(self, step: int) -> dict[str, float]:
        """Train on one batch, as a function of the weights, the seed and `step` alone.

        Returns the losses to log.
        """

    @abstractmethod
    def _resume(self) -> None:
        """Load the last checkpoint, if there is one."""

    @abstractmethod
    def _save(self) -> None:
        """Write a checkpoint."""

    @abstractmethod
    def _checkpoint_size(self) -> int:
        """The size of a checkpoint in bytes."""

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self._pace.last

    def _sheet(self, step: int, look: Callable[[int], None] | None) -> None:
        with self.ema_scope() as trained, torch.no_grad():
            picture = trained.sheet()
            if look is not None:
                look(step)
        with atomic_write(self.run / "sheets" / f"{step:07d}.png") as draft:
            picture.save(draft, "PNG")
