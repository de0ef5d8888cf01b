"""danqing (丹青): software that paints from words.

    import danqing

    danqing.paint("a red apple, 3d style")[0].save("panda.png")

The names below are loaded when they are first used, so that `import danqing` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from danqing.apps.paint import paint as paint
    from danqing.core.brief import Brief as Brief
    from danqing.core.picture import Picture as Picture
    from danqing.families import open_painter as open_painter

__version__ = "0.1.0"

_PUBLIC = {
    "Brief": "danqing.core.brief",
    "Picture": "danqing.core.picture",
    "open_painter": "danqing.families",
    "paint": "danqing.apps.paint",
}
__all__ = ["Brief", "Picture", "__version__", "open_painter", "paint"]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'danqing' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
