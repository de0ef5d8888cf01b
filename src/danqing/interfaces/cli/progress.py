"""Progress on stderr: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.interfaces.cli.language import say

LINE_SECONDS = 10  # seconds between two lines where there is no terminal


@contextmanager
def show_progress(model: str, doing: str) -> Iterator[ProgressCallback]:
    """Yield a progress callback for work with a model.

    It shows a bar on a terminal, and prints a line now and then elsewhere. The bar is removed at the end,
    also after Ctrl-C.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal or console.is_dumb_terminal:
        console.print(doing, soft_wrap=True)
        yield _Lines(doing)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # what is printed on the same terminal appears above the bar; in a pipe it is left alone
    with Bar(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(f"opening {model}", total=None)

        def move(progress: Progress) -> None:
            if progress.note:
                console.print(say(progress.note), soft_wrap=True)
                return
            text = progress.message or ("finishing" if progress.done else doing)
            bar.update(task, description=text)
            if progress.of:
                bar.update(task, total=progress.of, completed=progress.step)

        yield move


class _Lines:
    """Prints the progress of some work, at most once in LINE_SECONDS."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._last = monotonic()
        # (time, step) of the first report; opening the model is not counted
        self._first: tuple[float, int] | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.note:
            print(say(progress.note), file=sys.stderr, flush=True)
            return
        now = monotonic()
        if self._first is None and progress.of:
            self._first = now, progress.step
        if now - self._last < LINE_SECONDS or progress.done or not progress.of:
            return
        self._last = now
        done = f"{progress.message or self._doing}: {progress.step} of {progress.of}"
        print(f"{done}{self._time_left(progress, now)}", file=sys.stderr, flush=True)

    def _time_left(self, progress: Progress, now: float) -> str:
        """The estimated time left; empty at the first report."""
        start, first = self._first or (now, progress.step)
        steps = progress.step - first
        return f", {(now - start) / steps * (progress.of - progress.step):.0f} s left" if steps > 0 else ""


@contextmanager
def counting(before: str, doing: str = "", *, quiet: bool = False) -> Iterator[ProgressCallback]:
    """Yield a progress callback for work without a model, which shows a bar on a terminal.

    before: text until the first step.
    doing: text after it; empty for the messages of the work.
    quiet: whether to show nothing.
    """
    console = Console(stderr=True, quiet=quiet)
    if not console.is_terminal or console.is_dumb_terminal:
        yield no_progress if quiet else _Lines(doing or before)
        return
    with Bar(console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(before, total=None)
        yield lambda progress: bar.update(
            task, description=doing or progress.message, completed=progress.step, total=progress.of or None
        )
