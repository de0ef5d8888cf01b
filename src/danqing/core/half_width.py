"""Full-width characters, as Chinese keyboards type them, and the half-width ones of the same meaning.

A parser looks for syntax such as brackets in `half_width(text)`, which has the same length as `text`, and
takes the words from `text` itself. So （ and ( mean the same, and a text encoder gets the words as typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TWINS = {
    **{wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)},  # ！ to ～, for all of visible ASCII
    ord("\u3000"): ord(" "),
    **dict.fromkeys(map(ord, "“”„‟"), ord('"')),
    **dict.fromkeys(map(ord, "‘’‚‛"), ord("'")),
}
_QUOTES = ('"', "'")


def half_width(text: str) -> str:
    """`text` with each full-width character replaced by its half-width one; the length is the same."""
    return text.translate(_TWINS)


def split_marks(pattern: re.Pattern[str], text: str) -> tuple[list[str], list[str]]:
    """`pattern.split(text)` for a pattern of half-width syntax that also matches the full-width characters.

    pattern: has exactly one group.

    Returns:
        The pieces in half-width characters, for parsing, and the same pieces as they were typed.
    """
    marks = pattern.split(half_width(text))
    typed, start = [], 0
    for mark in marks:
        typed.append(text[start : start + len(mark)])
        start += len(mark)
    return marks, typed


def sub_marks(pattern: re.Pattern[str], replaced: Callable[[re.Match[str], str], str], text: str) -> str:
    """`pattern.sub` for a pattern of half-width syntax that also matches the full-width characters.

    replaced: called with a match in half-width characters and with the same text as it was typed.
    """
    done, start = [], 0
    for match in pattern.finditer(half_width(text)):
        done += [text[start : match.start()], replaced(match, text[match.start() : match.end()])]
        start = match.end()
    return "".join([*done, text[start:]])


def unquote_marks(text: str) -> str:
    """`text` without the quotes around all of it, half-width or full-width, where it has them."""
    half = half_width(text)
    quoted = len(half) > 1 and half[0] == half[-1] and half[0] in _QUOTES and half[0] not in half[1:-1]
    return text[1:-1].strip() if quoted else text
