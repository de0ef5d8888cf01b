"""Which apps there are, without importing any of them."""

from __future__ import annotations

import ast
from pathlib import Path

import danqing.apps


def summaries() -> dict[str, str]:
    """Name of each app -> what it does, in a line: the first of its module's docstring."""
    folders = [Path(folder) for folder in danqing.apps.__path__]
    files = sorted(
        file for folder in folders for file in folder.glob("*.py") if not file.stem.startswith("_")
    )
    docstrings = {file.stem: ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "" for file in files}
    return {name: text.split("\n")[0] for name, text in docstrings.items()}
