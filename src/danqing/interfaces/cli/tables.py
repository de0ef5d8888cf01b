"""Prints rows about pictures: as a table for people or as JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from danqing.core.errors import BadPicture

if TYPE_CHECKING:
    from danqing.apps import Classification, Hit, UnreadableFile


def print_rows(rows: Iterable[Classification | Hit | UnreadableFile], as_json: bool) -> None:
    """Print a table or JSON lines on stdout; unreadable files are listed and counted on stderr.

    Raises:
        BadPicture: none of the files could be read.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    read = lost = 0
    for row in rows:
        record = row.record()
        if "error" in record:
            print(f"danqing: {record['error']}", file=sys.stderr)
            lost += 1
        else:
            read += 1
        if as_json:
            print(json.dumps(record, ensure_ascii=False))
        for number, cells in enumerate(row.cells()):
            if not table.columns:
                for column in ("file", *row.columns):
                    table.add_column(column, justify="left", overflow="fold")
            file = record["file"] if number == 0 else ""
            table.add_row(*(Text(text) for text in (file, *cells)))
    if table.row_count and not as_json:
        Console(highlight=False, soft_wrap=True).print(table)
    if lost and not read:
        raise BadPicture(f"none of {lost} files could be read: give pictures")
    if lost:
        print(f"danqing: {lost} of {read + lost} files could not be read", file=sys.stderr)


def split_commas(text: str) -> list[str]:
    """Split a text at commas, Western or Chinese."""
    return [word.strip() for word in text.replace("，", ",").split(",") if word.strip()]
