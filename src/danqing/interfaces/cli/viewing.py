"""Shows results: in the terminal (`--preview`), or in the system's viewer (`--open`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import typer
from PIL import Image
from rich.console import Console

from danqing.interfaces.cli.options import option
from danqing.interfaces.cli.report import Report

PREVIEW_ROWS = 24  # most lines of the terminal that a preview takes
OPTIONS = (
    option("open_it", "--open", kind=bool, help="Open what was made with the system's viewer.", unset=""),
    option("preview", "--preview", kind=bool, help="Show what was made in the terminal.", unset=""),
)


def view(path: Path, report: Report, *, open_it: bool, preview: bool) -> None:
    """Show a finished file as the options ask; print a note if that is impossible."""
    if preview:
        with Image.open(path) as image:
            if not show_in_terminal(image):
                report.note("--preview shows nothing here: this is no terminal for pictures")
    if open_it and typer.launch(str(path.resolve())) != 0:
        report.note(f"--open finds no viewer here: the file is {path}")


def show_in_terminal(image: Image.Image) -> bool:
    """Show a picture on stdout or stderr, whichever is a terminal. Returns whether one of them is.

    It uses kitty's graphics protocol or sixels if the terminal supports them, as iTerm2 does, else half
    blocks.
    """
    consoles = [Console(), Console(stderr=True)]
    console = next((each for each in consoles if each.is_terminal and not each.is_dumb_terminal), None)
    if console is None:
        return False
    with _keyboard():
        from textual_image import renderable  # importing it asks the terminal for its abilities

        answers = sys.__stdout__ is not None and sys.__stdout__.isatty() and not console.no_color
        kind = renderable.Image if answers else renderable.HalfcellImage
        try:
            picture = kind(_on_white(image), width="auto", height="auto")
            console.print(picture, height=min(PREVIEW_ROWS, console.height))
        except ZeroDivisionError:  # textual-image divides by the terminal's number of columns, which may be 0
            return False
    return True


@contextmanager
def _keyboard() -> Iterator[None]:
    """A context in which stdin is the terminal, since its answers come as keyboard input."""
    stdin = sys.__stdin__
    if stdin is not None and stdin.isatty():
        yield
        return
    with ExitStack() as stack:
        keyboard = None
        with suppress(OSError):  # on Windows, or without a controlling terminal
            keyboard = stack.enter_context(Path("/dev/tty").open(encoding="utf-8"))
        stack.callback(setattr, sys, "__stdin__", stdin)
        sys.__stdin__ = keyboard  # type: ignore[misc]
        yield


def _on_white(image: Image.Image) -> Image.Image:
    """The picture as RGB over white."""
    clear = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
