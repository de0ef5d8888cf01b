"""Names of the things that the shipped model has learned, and of common things that it has not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

from danqing.data.lexicon import lexicon
from danqing.data.synonyms import read_synonyms
from danqing.data.vocabulary import vocabulary

TRUSTED = 25  # synonyms of each thing, the nearest in meaning first, that count as its name


def thing_name(core: str) -> str | None:
    """The learned thing whose name stands last in an English phrase, as the head noun does."""
    words = re.findall(r"[a-z0-9'-]+", core)
    words = [word.removesuffix("'s") for word in words]
    for end in range(len(words), 0, -1):
        for start in range(max(0, end - 3), end):
            text = " ".join(words[start:end])
            if {text, singular(text)} & unlearned_names().keys():
                return None
            match = learned_names().get(text) or learned_names().get(singular(text))
            if match is not None:
                return match
    return None


@cache
def people() -> frozenset[str]:
    """Words for people. The model has learned none of them."""
    return frozenset(word for word, nearest in unlearned_names().items() if nearest == _LIKE_PEOPLE)


_LIKE_PEOPLE = ("snowman", "teddy bear", "monkey")

SURROUNDINGS = frozenset(
    [
        "lighthouse",
        "grass",
        "river",
        "bamboo",
        "clock",
        "island",
        "sea",
        "tower",
        "castle",
        "cave",
        "ocean",
        "field",
        "road",
        "wall",
        "hill",
        "mountain",
        "man",
        "woman",
        "boy",
        "girl",
        "baby",
        "grandmother",
        "grandfather",
        "teacher",
        "farmer",
        "sailor",
        "king",
        "queen",
        "student",
        "child",
        "doctor",
        "hand",
        "eye",
        "well",
        "奶奶",
        "爷爷",
        "男孩",
        "女孩",
        "老师",
        "男人",
        "女人",
        "手",
        "椅子",
        "长椅",
        "桌子",
        "眼睛",
    ]
)  # narrators of a story, and the places and times where it is set


@cache
def plain_names() -> Mapping[str, str]:
    """Maps the names in the vocabulary and in our own list, in both languages, to their things."""
    words = {word: thing for side in (0, 1) for thing, all_ in _sides(_own(), side).items() for word in all_}
    plain = {name: thing for thing, chinese in vocabulary().items() for name in (thing.lower(), chinese)}
    return words | plain


def has_unlearned_name(core: str, *, chinese: bool) -> bool:
    """Whether a phrase names a thing that the model certainly has not learned."""
    if chinese:
        return any(name in core for name in unlearned_names())
    words = core.split()
    return any(singular(word) in unlearned_names() or word in unlearned_names() for word in words)


@cache
def unlearned_names() -> Mapping[str, tuple[str, ...]]:
    """Maps the name of an unlearned thing, in either language, to the three most similar learned things."""
    text = (resources.files("danqing.data") / "unlearned.txt").read_text("utf-8")
    rows = [line.split(" = ") for line in text.splitlines() if not line.startswith("#")]
    ours = {word for side in (0, 1) for words in _sides(_own(), side).values() for word in words}
    ours |= {*vocabulary(), *vocabulary().values()}
    return {
        word: tuple(nearest.split(", "))
        for nearest, words in rows
        for word in words.split(", ")
        if word not in ours
    }


@cache
def _own() -> Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return read_synonyms(resources.files("danqing.data") / "synonyms.txt")


def singular(name: str) -> str:
    """The singular of an English name, by simple rules."""
    for plural, one in (
        ("ies", "y"),
        ("ves", "f"),
        ("xes", "x"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("oes", "o"),
        ("s", ""),
    ):
        if name.endswith(plural):
            return name.removesuffix(plural) + one
    return name


def named_zh(core: str) -> str | None:
    """The learned thing whose name stands last in a Chinese phrase; of several, the longest name."""
    unlearned = max(
        ((core.rfind(name) + len(name), len(name)) for name in unlearned_names() if name in core),
        default=(0, 0),
    )
    match = [
        (core.rfind(name) + len(name), len(name), thing)
        for name, thing in learned_names_zh().items()
        if name in core
    ]
    return max(match)[2] if match and max(match)[:2] > unlearned else None


@cache
def learned_names() -> Mapping[str, str]:
    """Maps every English name that counts as learned to its thing."""
    return _names(0)


@cache
def learned_names_zh() -> Mapping[str, str]:
    """Maps every Chinese name that counts as learned to its thing."""
    return {**_names(1), **{chinese: name for name, chinese in vocabulary().items()}}


def _names(side: int) -> dict[str, str]:
    """Maps every name that counts as learned to its thing.

    Plain names come last, so that they take precedence.
    """
    names: dict[str, str] = {}
    for words in ({thing: both[side][:TRUSTED] for thing, both in lexicon().items()}, _sides(_own(), side)):
        for thing, others in words.items():
            names.update(dict.fromkeys(others, thing))
    return {**names, **{thing.lower(): thing for thing in vocabulary()}}


def _sides(
    words: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]], side: int
) -> dict[str, tuple[str, ...]]:
    return {thing: both[side] for thing, both in words.items()}
