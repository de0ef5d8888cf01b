"""What stderr shows while a picture is painted: a bar on a terminal, a line elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def working(model: str, doing: str) -> Iterator[ProgressCallback]:
    """Yield what to call with the progress of some work with a model. It moves a bar.

    The bar is gone afterwards, also after Ctrl-C.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        console.print(doing, soft_wrap=True)
        yield no_progress
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"opening {model}", total=None)

        def move(progress: Progress) -> None:
            text = progress.message or ("finishing" if progress.done else doing)
            bar.update(task, description=text)
            if progress.of:
                bar.update(task, total=progress.of, completed=progress.step)

        yield move


@contextmanager
def counting(before: str, doing: str = "") -> Iterator[ProgressCallback]:
    """Yield what to call with the progress of some work without a model. It moves a bar on a terminal.

    before: shown until the first step. doing: shown from then on; empty for the messages of the work.
    """
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(before, total=None)
        yield lambda progress: bar.update(
            task, description=doing or progress.message, completed=progress.step, total=progress.of or None
        )
