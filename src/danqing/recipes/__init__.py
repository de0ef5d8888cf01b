"""The recipes: how each set of shipped weights was trained. Each module without an underscore is a recipe.

Modules that need torch are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from danqing.recipes._names import check_name as check_name
from danqing.recipes._names import recipe_summaries as recipe_summaries

if TYPE_CHECKING:
    from danqing.recipes._recipe import TrainRequest as TrainRequest
    from danqing.recipes._recipe import open_recipe as open_recipe


def __getattr__(name: str) -> object:
    if name not in ("TrainRequest", "open_recipe"):
        raise AttributeError(f"module 'danqing.recipes' has no attribute {name!r}")
    return getattr(import_module("danqing.recipes._recipe"), name)
