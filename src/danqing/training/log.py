"""The written and the shown record of a run."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path


class Log:
    """Averages losses, appends them to a CSV file and tells each line with speed and time left."""

    def __init__(self, path: Path, steps: int, batch: int, watch: Callable[[str], None] | None) -> None:
        self._path, self._steps, self._batch, self._watch = path, steps, batch, watch
        self._sums: dict[str, float] = {}
        self._count = 0
        self._since = time.monotonic()

    def add(self, step: int, losses: dict[str, float], every: int) -> None:
        """Count one step; every `every` steps (and at the last) write the means."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if step % every == 0 or step == self._steps:
            self._write(step)

    def _write(self, step: int) -> None:
        means = {name: total / self._count for name, total in self._sums.items()}
        seconds = time.monotonic() - self._since
        rate = self._count * self._batch / seconds
        left = (self._steps - step) * seconds / self._count
        self._append({"step": step, **means, "pictures_per_second": rate})
        if self._watch is not None:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
            self._watch(f"step {step}/{self._steps}  {shown}  {rate:.1f} pictures/s  {_clock(left)} left")
        self._sums, self._count, self._since = {}, 0, time.monotonic()

    def _append(self, row: dict[str, float]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow({key: f"{value:.6g}" for key, value in row.items()})


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
