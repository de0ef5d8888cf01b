"""What stderr shows while a picture is painted: a bar on a terminal, a line elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from danqing.core.painter import Canvas


@contextmanager
def working(model: str, doing: str) -> Iterator[Callable[[Canvas | str], None]]:
    """Yield what to call with each canvas, or with a line about what else is done.

    The bar is gone afterwards, also after Ctrl-C.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        console.print(doing, soft_wrap=True)
        yield lambda _canvas: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"opening {model}", total=None)

        def watch(canvas: Canvas | str) -> None:
            if isinstance(canvas, str):
                progress.update(task, description=canvas)
                return
            done = canvas.step == canvas.of
            text = "finishing" if done else doing
            progress.update(task, description=text, total=canvas.of, completed=canvas.step)

        yield watch
