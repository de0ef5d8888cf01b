"""danqing (丹青): software that paints from words.

    import danqing

    danqing.paint("a red apple, 3d style")[0].save("panda.png")

The names below are loaded when they are first used, so that `import danqing` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from danqing.apps.blend import blend as blend
    from danqing.apps.describe import describe as describe
    from danqing.apps.edit import edit as edit
    from danqing.apps.inpaint import inpaint as inpaint
    from danqing.apps.outpaint import outpaint as outpaint
    from danqing.apps.outpaint import pan as pan
    from danqing.apps.outpaint import zoom as zoom
    from danqing.apps.paint import paint as paint
    from danqing.apps.redraw import redraw as redraw
    from danqing.apps.stylize import stylize as stylize
    from danqing.apps.upscale import upscale as upscale
    from danqing.apps.vary import vary as vary
    from danqing.core.brief import Brief as Brief
    from danqing.core.picture import Picture as Picture
    from danqing.families import open_painter as open_painter

__version__ = "0.1.0"

_PUBLIC = {
    "Brief": "danqing.core.brief",
    "Picture": "danqing.core.picture",
    "blend": "danqing.apps.blend",
    "describe": "danqing.apps.describe",
    "edit": "danqing.apps.edit",
    "inpaint": "danqing.apps.inpaint",
    "open_painter": "danqing.families",
    "outpaint": "danqing.apps.outpaint",
    "paint": "danqing.apps.paint",
    "pan": "danqing.apps.outpaint",
    "redraw": "danqing.apps.redraw",
    "stylize": "danqing.apps.stylize",
    "upscale": "danqing.apps.upscale",
    "vary": "danqing.apps.vary",
    "zoom": "danqing.apps.outpaint",
}
__all__ = [
    "Brief",
    "Picture",
    "__version__",
    "blend",
    "describe",
    "edit",
    "inpaint",
    "open_painter",
    "outpaint",
    "paint",
    "pan",
    "redraw",
    "stylize",
    "upscale",
    "vary",
    "zoom",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'danqing' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
