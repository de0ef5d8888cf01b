"""The names of all apps, without importing any of them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import danqing.apps


def app_summaries() -> dict[str, str]:
    """Name of each app -> the first line of its module's docstring."""
    return _summaries(tuple(danqing.apps.__path__))


@cache
def _summaries(places: tuple[str, ...]) -> dict[str, str]:
    folders = [Path(place) for place in places]
    files = sorted(
        file for folder in folders for file in folder.glob("*.py") if not file.stem.startswith("_")
    )
    return {file.stem: _first_line(file.read_text("utf-8")) for file in files}


def _first_line(source: str) -> str:
    """The first line of a module's docstring. `ast` is not used: its parser is not thread-safe in 3.11."""
    match = re.match(r'"""(.*?)(?:\n|""")', source)
    return match[1] if match else ""
