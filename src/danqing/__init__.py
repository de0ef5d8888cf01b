"""danqing (丹青): software that paints from words.

    import danqing

    danqing.paint("a red apple, 3d style")[0].save("apple.png")

The names below are loaded when they are first used, so that `import danqing` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from danqing.apps import Session as Session
    from danqing.apps.animate import animate as animate
    from danqing.apps.blend import blend as blend
    from danqing.apps.classify import classify as classify
    from danqing.apps.describe import describe as describe
    from danqing.apps.edit import edit as edit
    from danqing.apps.imagine import imagine as imagine
    from danqing.apps.inpaint import inpaint as inpaint
    from danqing.apps.learn import learn as learn
    from danqing.apps.lineage import lineage as lineage
    from danqing.apps.outpaint import outpaint as outpaint
    from danqing.apps.paint import paint as paint
    from danqing.apps.pan import pan as pan
    from danqing.apps.redraw import redraw as redraw
    from danqing.apps.remix import remix as remix
    from danqing.apps.reroll import reroll as reroll
    from danqing.apps.score import score as score
    from danqing.apps.search import search as search
    from danqing.apps.stylize import stylize as stylize
    from danqing.apps.upscale import upscale as upscale
    from danqing.apps.vary import vary as vary
    from danqing.apps.zoom import zoom as zoom
    from danqing.core.brief import Brief as Brief
    from danqing.core.errors import BadBrief as BadBrief
    from danqing.core.errors import BadData as BadData
    from danqing.core.errors import BadPicture as BadPicture
    from danqing.core.errors import BadWeights as BadWeights
    from danqing.core.errors import DanqingError as DanqingError
    from danqing.core.errors import NotFinite as NotFinite
    from danqing.core.picture import Picture as Picture
    from danqing.core.progress import Progress as Progress
    from danqing.families import open_painter as open_painter
    from danqing.interfaces.client import Client as Client

__version__ = "0.1.0"

_TYPES = {
    "BadBrief": "danqing.core.errors",
    "BadData": "danqing.core.errors",
    "BadPicture": "danqing.core.errors",
    "BadWeights": "danqing.core.errors",
    "Brief": "danqing.core.brief",
    "Client": "danqing.interfaces.client",
    "DanqingError": "danqing.core.errors",
    "NotFinite": "danqing.core.errors",
    "Picture": "danqing.core.picture",
    "Progress": "danqing.core.progress",
    "Session": "danqing.apps",
    "open_painter": "danqing.families",
}


def __getattr__(name: str) -> object:
    if name in _TYPES:
        return getattr(import_module(_TYPES[name]), name)
    if name == "__all__":
        return [*_TYPES, *_apps(), "__version__"]
    if name.startswith("_") or name not in _apps():
        raise AttributeError(f"module 'danqing' has no attribute {name!r}; it has {', '.join(__dir__())}")
    from danqing.apps import find_app

    return find_app(name)


def _apps() -> list[str]:
    """The apps, each of them a function."""
    from danqing.apps import app_summaries

    return list(app_summaries())


def __dir__() -> list[str]:
    return sorted([*_TYPES, *_apps(), "__version__"])
