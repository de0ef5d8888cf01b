"""The exceptions. The text of each is one line that names the value and the fix.

DanqingError
├── BadBrief      the request cannot be painted as it is
├── BadPicture    a picture file cannot be read, or has no metadata of danqing
├── BadWeights    a weights file is missing, truncated, not finite or of another architecture
├── BadData       a data set cannot be trained on
└── NotFinite     numbers became NaN or infinite while painting or training
"""

# ruff: noqa: N818  a name says what is bad; "Error" on each would add nothing

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DanqingError(Exception):
    """An error that the user can fix; interfaces show its one line without a traceback."""


class BadBrief(DanqingError):
    """A request that cannot be painted as it is.

    field: the name of the wrong field; None where no single field is wrong.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class BadPicture(DanqingError):
    """A picture file that cannot be read or holds no brief."""


class BadWeights(DanqingError):
    """A weights file that cannot be used."""


class BadData(DanqingError):
    """A data set that cannot be trained on."""


class NotFinite(DanqingError):
    """NaN or infinite values appeared; nothing is saved from them."""


def shorten(text: str, most: int = 60) -> str:
    """`text`, shortened in the middle where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 4 :]}"


def unknown(kind: str, value: str, choices: Iterable[str]) -> str:
    """A one-line message for an unknown name: the nearest match first, then all valid names."""
    names = sorted(choices)
    near = difflib.get_close_matches(value.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    choice = f"choose from {', '.join(names)}" if names else f"there is no {kind} to choose from"
    return f"unknown {kind} {shorten(value)!r}: {hint}{choice}"
