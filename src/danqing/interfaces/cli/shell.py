"""Quotes command lines for copying into a shell: of Unix, or of Windows, which uses double quotes."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable


def quote(word: str) -> str:
    """A word with the quotes that it needs."""
    if sys.platform != "win32":
        return shlex.quote(word)
    if re.fullmatch(r"[\w@+=:,./\\~-]+", word):
        return word
    # backslashes are special only before a quote, where they must be doubled
    inside = re.sub(r'(\\*)"', r'\1\1\\"', word)
    return '"' + re.sub(r"(\\+)$", r"\1\1", inside) + '"'


def join_words(words: Iterable[str]) -> str:
    """Words as a command line."""
    return " ".join(map(quote, words))
