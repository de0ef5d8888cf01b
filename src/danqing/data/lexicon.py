"""Synonyms of the best-known things, the nearest in meaning first: `lexicon.txt`.

A sentence encoder chose them from the dictionary (`python recipes/lexicon.py`); nobody has read them all. The
first ones of each thing come from our own list, `synonyms.txt`.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib import resources

from danqing.data.synonyms import Synonyms, read_synonyms

Lexicon = Synonyms

PROBES, PROBES_ZH = 50, 15  # one in so many of the encoder's words is held out of training


def lexicon() -> Lexicon:
    """Maps the name of a thing to its synonyms in English and in Chinese."""
    return read_synonyms(resources.files("danqing.data") / "lexicon.txt")


def split_lexicon(words: Lexicon) -> tuple[Lexicon, Lexicon]:
    """Split into the synonyms to train on and those held out for tests; a word is always on the same side."""
    return (
        {name: _select(both, probes=False) for name, both in words.items()},
        {name: _select(both, probes=True) for name, both in words.items()},
    )


def _select(
    both: tuple[tuple[str, ...], tuple[str, ...]], *, probes: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    english, chinese = (tuple(word for word in side if _is_probe(word) == probes) for side in both)
    return english, chinese


def _is_probe(word: str) -> bool:
    many = PROBES if word.isascii() else PROBES_ZH
    drawn = int.from_bytes(sha256(word.encode()).digest()[:4], "big") % many == 0
    return drawn and word not in _own()


@cache
def _own() -> frozenset[str]:
    ours = read_synonyms(resources.files("danqing.data") / "synonyms.txt")
    return frozenset(word for both in ours.values() for side in both for word in side)
