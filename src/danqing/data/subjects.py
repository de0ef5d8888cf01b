"""Finds the subject of a prompt, and whether the shipped model has learned it. Uses word lists, no network.

The subject is the first phrase of the prompt (`phrases.py`) that names a thing of the vocabulary, by its name
or by a synonym of the lexicon (`thing_names.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from functools import cache

from danqing.conditioning.prompt import is_chinese
from danqing.data.phrases import phrases, phrases_zh
from danqing.data.thing_names import (
    SURROUNDINGS,
    has_unlearned_name,
    learned_names,
    learned_names_zh,
    named_zh,
    people,
    plain_names,
    singular,
    thing_name,
    unlearned_names,
)
from danqing.data.vocabulary import vocabulary


@dataclass(frozen=True)
class SubjectMatch:
    """The result of `find_subject`.

    name: the English name of the learned thing that the prompt is about; None if it is about no learned
        thing.
    nearest: if name is None, three similar learned things, named in the prompt's language; empty if the
        prompt names nothing at all.
    phrase: the part of the prompt that names its subject.
    """

    name: str | None
    nearest: tuple[str, ...] = ()
    phrase: str = ""


def find_subject(prompt: str) -> SubjectMatch:
    """Find the subject of a prompt in English or Chinese."""
    chinese = is_chinese(prompt)
    cores = (phrases_zh if chinese else phrases)(prompt)
    first = cores[0] if cores else ""
    match = named_zh if chinese else thing_name
    name = match(first)
    if name is None and not has_unlearned_name(first, chinese=chinese):
        # a description may come first: "the king of the savanna, a lion"; "老花镜，眼镜"
        name = next(
            (
                match(core)
                for core in cores[1:]
                if core.strip() in learned_names() or core in learned_names_zh()
            ),
            None,
        )
    if name is None and not has_unlearned_name(first, chinese=chinese):
        name = (
            _similar_name(first) or _first_named_zh(prompt)
            if chinese
            else _similar_name(first) or _first_thing(prompt)
        )
    if name is None and not chinese and _is_story(prompt, first):
        name = _first_thing(prompt)
    if name is None and chinese:  # a Chinese sentence may name the thing in English
        name = thing_name(" ".join(phrases(prompt)[:1]))
    if name is None:
        name = _only_thing(prompt.lower(), chinese=chinese)
    nearest = _nearest(first, chinese=chinese) if name is None else ()
    return SubjectMatch(name, nearest, first.strip())


STORY = 13  # an English sentence of at least so many words may be a story

LONG, LONG_ZH = 9, 12  # sentences of at least so many words or characters may name their subject late


def _is_story(prompt: str, first: str) -> bool:
    """Whether an English sentence is long and its first phrase names only people, places or times."""
    unlearned = {word for word in first.split() if word in unlearned_names()}
    return len(prompt.split()) >= STORY and unlearned <= people() | SURROUNDINGS


def _first_thing(prompt: str) -> str | None:
    """The first learned thing in a long English sentence; None if an unlearned thing comes before it."""
    words = re.findall(r"[a-z0-9-]+", prompt.lower().replace("'s", ""))
    if len(words) < LONG:
        return None
    for start in range(len(words)):
        for end in range(start + 3, start, -1):
            text = " ".join(words[start:end])
            if {text, singular(text)} & unlearned_names().keys():
                if {text, singular(text)} & (SURROUNDINGS | people()):
                    break
                return None
            match = plain_names().get(text) or plain_names().get(singular(text))
            if match is not None:
                return match
    return None


def _first_named_zh(prompt: str) -> str | None:
    """The first learned thing in a long Chinese sentence; None if an unlearned thing comes before it."""
    if len(prompt) < LONG_ZH:
        return None
    unlearned = [
        prompt.find(word)
        for word in unlearned_names().keys() - SURROUNDINGS - people()
        if len(word) > 1 and word in prompt
    ]
    names = [
        (prompt.find(word), -len(word), thing) for word, thing in plain_names().items() if word in prompt
    ]
    names = [each for each in names if -each[1] > 1 or len(names) == 1]
    return min(names)[2] if names and min(names)[0] <= min(unlearned, default=len(prompt)) else None


def _only_thing(text: str, *, chinese: bool) -> str | None:
    """The only learned thing that a prompt names by a plain name; None if it names other things too."""
    unknown = unlearned_names().keys()
    if chinese:
        if any(len(word) > 1 and word in text for word in unknown):
            return None
        match = {thing for word, thing in plain_names().items() if len(word) > 1 and word in text}
        return match.pop() if len(match) == 1 else None
    words = re.findall(r"[a-z0-9-]+", text.replace("'s", ""))
    parts = {" ".join(words[k : k + size]) for size in (1, 2, 3) for k in range(len(words))}
    parts |= {singular(part) for part in parts}
    if parts & unknown:
        return None
    match = {plain_names()[part] for part in parts & plain_names().keys()}
    return match.pop() if len(match) == 1 else None


def _similar_name(core: str) -> str | None:
    """The learned thing whose name a phrase misspells by a letter or two."""
    words = [word for word in core.split() if len(word) >= LEAST]
    match = [get_close_matches(word, _single_names(), n=1, cutoff=CLOSE) for word in words]
    return next((plain_names()[names[0]] for names in reversed(match) if names), None)


# least letters of a word that may be misspelled; least similarity (difflib ratio) to the name
LEAST, CLOSE = 5, 0.86


@cache
def _single_names() -> tuple[str, ...]:
    return tuple(name for name in plain_names() if name.isascii() and " " not in name and len(name) >= LEAST)


def _nearest(core: str, *, chinese: bool, count: int = 3) -> tuple[str, ...]:
    """Learned things similar to a phrase: those listed in `unlearned_names`, or those spelled similarly."""
    names = vocabulary()
    if not core.strip():
        return ()
    alike = [
        near
        for word, near in unlearned_names().items()
        if (word in core if chinese else word in core.split())
    ]
    if alike:
        return tuple(names[thing] for thing in alike[-1]) if chinese else alike[-1]
    spelled: Iterable[str] = names.values() if chinese else names
    likeness = {name: SequenceMatcher(None, core, name).ratio() for name in spelled}
    return tuple(sorted(likeness, key=lambda name: -likeness[name])[:count])
