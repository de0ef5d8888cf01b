"""The names of the recipes, without importing one of them."""

from __future__ import annotations

import ast
from pathlib import Path

from danqing.core.errors import BadBrief, unknown


def recipe_summaries() -> dict[str, str]:
    """Maps the name of each recipe to the first line of its docstring, without importing it."""
    root = Path(__file__).parent
    files = sorted(file for file in root.glob("*.py") if not file.stem.startswith("_"))
    marked = {file.stem: ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "" for file in files}
    return {name: text.split("\n")[0] for name, text in marked.items()}


def check_name(name: str) -> None:
    """Check that there is a recipe of this name.

    Raises:
        BadBrief: there is none; the message has the nearest name and all names.
    """
    if name not in recipe_summaries():
        raise BadBrief(unknown("recipe", name, recipe_summaries()))
