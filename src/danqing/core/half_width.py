"""Full-width characters, as Chinese keyboards type them, beside the half-width ones that they are twins of.

Whoever reads marks in a text reads them in `half_width(text)`, which has the same length, and takes words
from the text itself: so （ and ( mean the same, and words reach a text encoder as they were typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TWINS = {
    **{wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)},  # ！ to ～, the forms of all of ASCII
    ord("\u3000"): ord(" "),
    **dict.fromkeys(map(ord, "“”„‟"), ord('"')),
    **dict.fromkeys(map(ord, "‘’‚‛"), ord("'")),
}
_QUOTES = ('"', "'")


def half_width(text: str) -> str:
    """`text` with each full-width character as its twin; of the same length."""
    return text.translate(_TWINS)


def split_marks(pattern: re.Pattern[str], text: str) -> tuple[list[str], list[str]]:
    """`pattern.split(text)`, where the pattern, with one group, also matches full-width twins.

    Returns the pieces with their marks as half-width twins, for reading, and the pieces as they were typed.
    """
    marks = pattern.split(half_width(text))
    typed, start = [], 0
    for mark in marks:
        typed.append(text[start : start + len(mark)])
        start += len(mark)
    return marks, typed


def sub_marks(pattern: re.Pattern[str], replaced: Callable[[re.Match[str], str], str], text: str) -> str:
    """`pattern.sub`, where the pattern also matches full-width twins.

    replaced: takes a match, in half-width characters, and the text that it matches as it was typed.
    """
    done, start = [], 0
    for match in pattern.finditer(half_width(text)):
        done += [text[start : match.start()], replaced(match, text[match.start() : match.end()])]
        start = match.end()
    return "".join([*done, text[start:]])


def unquote_marks(text: str) -> str:
    """`text` without the pair of quotes around all of it, of either width, where there is one."""
    half = half_width(text)
    quoted = len(half) > 1 and half[0] == half[-1] and half[0] in _QUOTES and half[0] not in half[1:-1]
    return text[1:-1].strip() if quoted else text
