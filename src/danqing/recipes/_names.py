"""Which recipes there are, without importing one of them."""

from __future__ import annotations

import ast
from pathlib import Path

from danqing.core.errors import BadBrief, unknown


def recipe_summaries() -> dict[str, str]:
    """What can be trained -> what it is, in a line. Imports none of it."""
    root = Path(__file__).parent
    files = sorted(file for file in root.glob("*.py") if not file.stem.startswith("_"))
    marked = {file.stem: ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "" for file in files}
    return {name: text.split("\n")[0] for name, text in marked.items()}


def check_name(name: str) -> None:
    """Whether there is a recipe of this name.

    Raises:
        BadBrief: there is none; tells the nearest name and all there are.
    """
    if name not in recipe_summaries():
        raise BadBrief(unknown("recipe", name, recipe_summaries()))
