"""The log of a run: a CSV file and progress messages."""

from __future__ import annotations

import csv
import time
from pathlib import Path

from danqing.core.files import atomic_write
from danqing.core.progress import Progress, ProgressCallback


class Log:
    """Averages losses, appends them to a CSV file, and reports each line with the speed and the time left.

    start: the step that the run resumes from. Lines of later steps are removed, because those run again.
    """

    def __init__(self, path: Path, start: int, steps: int, batch: int, progress: ProgressCallback) -> None:
        self._path, self._steps, self._batch, self._progress = path, steps, batch, progress
        _cut(path, start)
        self._sums: dict[str, float] = {}
        self._count = 0
        self._since = time.monotonic()

    def add(self, step: int, losses: dict[str, float], every: int) -> None:
        """Count one step; every `every` steps, and at the last one, write the means."""
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
        values = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        line = f"step {step}/{self._steps}  {values}  {rate:.1f} pictures/s  {_clock(left)} left"
        self._progress(Progress(step, self._steps, line))
        self._sums, self._count, self._since = {}, 0, time.monotonic()

    def _append(self, row: dict[str, float]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerow({**{key: f"{value:.6g}" for key, value in row.items()}, "step": row["step"]})


def _cut(path: Path, start: int) -> None:
    """Keep the header and the lines up to step `start`; also remove an incomplete last line."""
    if not path.exists():
        return
    header, *lines = path.read_text("utf-8").splitlines(keepends=True) or [""]
    kept = [line for line in lines if line.endswith("\n") and float(line.split(",")[0]) <= start]
    with atomic_write(path) as draft:
        draft.write_text("".join([header, *kept]), "utf-8", newline="\n")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
