"""The grammar of open wording, `wording.txt`, and common words, `filler_words.txt`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources


@cache
def grammar() -> Mapping[str, tuple[str, ...]]:
    """Maps each rule to its alternatives."""
    rules: dict[str, list[str]] = {}
    for line in _lines("wording.txt"):
        name, _, ways = line.partition(": ")
        rules.setdefault(name, []).extend(way.rstrip() for way in ways.split(" | "))
    return {name: tuple(ways) for name, ways in rules.items()}


@cache
def filler_words(language: str) -> tuple[str, ...]:
    """Common words of a language that do not name any learned thing."""
    return tuple(word for word in _lines("filler_words.txt") if word.isascii() == (language == "en"))


def _lines(name: str) -> list[str]:
    text = (resources.files("danqing.data") / name).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
