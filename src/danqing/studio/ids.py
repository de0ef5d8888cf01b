"""Ids that sort by time: ULIDs, 48 bits of milliseconds and 80 random bits in Crockford's base 32."""

from __future__ import annotations

import re
import secrets
import time

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PATTERN = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def new_id(seconds: float | None = None) -> str:
    """A new random id of 26 characters.

    seconds: time since 1970 by which it sorts; None for now.
    """
    now = time.time() if seconds is None else max(seconds, 0.0)
    number = int(now * 1000) << 80 | secrets.randbits(80)
    return "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id."""
    return _PATTERN.fullmatch(text) is not None
