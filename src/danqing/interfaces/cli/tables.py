"""What is found in pictures, as a table for people or as JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from danqing.core.errors import BadPicture

MANY = Annotated[
    list[str], typer.Argument(metavar="PICTURE...", help="Pictures, or folders of them.", show_default=False)
]


@dataclass(frozen=True)
class Found:
    """told: of a picture, with its `file`, and `error` if it cannot be read. cells: its lines in a table."""

    told: dict[str, Any]
    cells: Sequence[tuple[str, ...]] = ()


def answer(found: Iterable[Found], as_json: bool, columns: Sequence[str]) -> None:
    """Print a table or JSON lines on stdout; each unreadable file is a line on stderr, and counted.

    Raises:
        BadPicture: none of the files could be read.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("file", *columns):
        table.add_column(column, justify="left", overflow="fold")
    read = lost = 0
    for each in found:
        if "error" in each.told:
            print(f"danqing: {each.told['error']}", file=sys.stderr)
            lost += 1
        else:
            read += 1
        if as_json:
            print(json.dumps(each.told, ensure_ascii=False))
        for number, cells in enumerate(each.cells):
            file = each.told["file"] if number == 0 else ""
            table.add_row(*(Text(text) for text in (file, *cells)))
    if table.row_count and not as_json:
        Console(highlight=False, soft_wrap=True).print(table)
    if lost and not read:
        raise BadPicture(f"none of {lost} files could be read: give pictures")
    if lost:
        print(f"danqing: {lost} of {read + lost} files could not be read", file=sys.stderr)


def parted(text: str) -> list[str]:
    """Words between commas, Western or Chinese."""
    return [word.strip() for word in text.replace("，", ",").split(",") if word.strip()]
