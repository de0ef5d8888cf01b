"""The things that the shipped model has learned to draw, by name."""

from __future__ import annotations

from importlib import resources

from danqing.data.drawing_sets import read_vocabulary


def vocabulary() -> dict[str, str]:
    """Maps English to Chinese names of the best-known things, in the file's order."""
    with resources.as_file(resources.files("danqing.data") / "vocabulary.txt") as path:
        _, names = read_vocabulary(path)
    return dict(names.values())


def things(language: str = "en") -> list[str]:
    """The names of the best-known things in English ("en") or Chinese ("zh")."""
    return list(vocabulary() if language == "en" else vocabulary().values())
