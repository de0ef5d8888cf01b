"""Captions in English and Chinese for a thing in a style."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Say = Callable[[str, str | None, random.Random], str]

# style -> (words, 词)
STYLE_WORDS: dict[str, tuple[str, str]] = {
    "3d": ("3d", "3D"),
    "flat": ("flat", "扁平"),
    "silhouette": ("silhouette", "剪影"),
    "cartoon": ("cartoon", "卡通"),
    "blob": ("blob", "软萌"),
    "twemoji": ("sticker", "贴纸"),
    "paper-cut": ("paper-cut", "剪纸"),
    "porcelain": ("blue and white porcelain", "青花瓷"),
    "ink-wash": ("ink wash", "水墨"),
}

_OPENINGS = (
    "",
    "",
    "{a} ",
    "{a} ",
    "{one} cute ",
    "a picture of {a} ",
    "an icon of {a} ",
    "a drawing of {a} ",
)
_OPENINGS_ZH = ("", "", "一个", "一只", "一张图，", "可爱的", "画一个", "一只可爱的")
_OPENINGS_OF_SEVERAL_ZH = ("", "", "一张图，")
_STYLED = (
    "{thing}, {style} style",
    "{thing}, {style} style",
    "{thing} in {style} style",
    "{style} {thing}",
    "{thing}, {style}",
)
_STYLED_ZH = (
    "{thing}，{style}风格",
    "{thing}，{style}风格",
    "{style}风格的{thing}",
    "{style}{thing}",
    "{thing} {style}",
)


_CONSONANT_SOUNDS = ("eu", "one-", "ufo", "uni", "use", "uk")  # a unicorn
_VOWEL_SOUNDS = ("heir", "honest", "honor", "honour", "hour")  # an hourglass


COUNTS: dict[int, tuple[str, str]] = {2: ("two", "两"), 3: ("three", "三"), 4: ("four", "四")}
_PLURALS = {  # by the last letters of a name
    "mouse": "mice",
    "goose": "geese",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "leaf": "leaves",
    "wolf": "wolves",
    "scarf": "scarves",
    "knife": "knives",
    "man": "men",
    "tomato": "tomatoes",
    "potato": "potatoes",
}
_UNCOUNTED = {"corn", "bread", "coffee", "lightning", "fire", "sun", "moon", "rainbow", "candy"}


def counted_caption(name: str, name_zh: str, count: int, *, animal: bool) -> tuple[str, str] | None:
    """The name in the plural with its number, as "three cats" and "三只猫".

    None for things that are not counted and for names that are plural already.
    """
    if name in _UNCOUNTED or is_plural(name):
        return None
    number, number_zh = COUNTS[count]
    return f"{number} {_plural(name)}", f"{number_zh}{'只' if animal else '个'}{name_zh}"


def is_plural(name: str) -> bool:
    """Whether an English name is a plural already, as "cherries"."""
    return name.endswith("s") and not name.endswith(("ss", "us", "is"))


def _plural(name: str) -> str:
    ending = next((one for one in _PLURALS if name.endswith(one)), None)
    if ending is not None:
        return name.removesuffix(ending) + _PLURALS[ending]
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    return f"{name[:-1]}ies" if name.endswith("y") and name[-2] not in "aeiou" else f"{name}s"


def article(name: str) -> str:
    """The article `a` or `an`, chosen by sound; an empty text before a number or a plural."""
    word = name.lower()
    if is_plural(word) or word.split(" ")[0] in {number for number, _ in COUNTS.values()}:
        return ""
    vowel = word.startswith(tuple("aeiou")) and not word.startswith(_CONSONANT_SOUNDS)
    return "an" if vowel or word.startswith(_VOWEL_SOUNDS) else "a"


def english_caption(name: str, style: str | None, rng: random.Random) -> str:
    """A random English caption for the thing in the style."""
    before = article(name)
    opening = rng.choice(_OPENINGS).format(a=before, one="a" if before else "")
    thing = f"{opening}{name}".replace("  ", " ").lstrip()
    return thing if style is None else rng.choice(_STYLED).format(thing=thing, style=STYLE_WORDS[style][0])


def chinese_caption(name: str, style: str | None, rng: random.Random) -> str:
    """A random Chinese caption for the thing in the style."""
    several = name.startswith(tuple(number for _, number in COUNTS.values()))
    thing = rng.choice(_OPENINGS_OF_SEVERAL_ZH if several else _OPENINGS_ZH) + name
    if style is None:
        return thing
    return rng.choice(_STYLED_ZH).format(thing=thing, style=STYLE_WORDS[style][1])


@dataclass(frozen=True)
class Shares:
    """Shares of the captions, each in [0, 1].

    tag: those that name the thing by one of its tags.
    synonym: those that name it by a synonym.
    unstyled: those that do not name the style.
    """

    tag: float = 0.0
    synonym: float = 0.0
    unstyled: float = 0.0


def caption_of(row: Mapping[str, Any], language: str, rng: random.Random, shares: Shares) -> str:
    """A random caption in "en" or "zh" for a row of a data set. Early synonyms are drawn more often.

    A row without a style, or with neither a concept nor a phrase, always gets the caption stored in it.
    """
    suffix, say = _LANGUAGES[language]
    name = row.get(f"phrase{suffix}") or _name(row, suffix, rng, shares)
    if not name or not row.get("style"):
        return str(row.get(f"text{suffix}") or row["text"])
    return say(name, None if rng.random() < shares.unstyled else str(row["style"]), rng)


def _name(row: Mapping[str, Any], suffix: str, rng: random.Random, shares: Shares) -> str:
    """The name of the row's thing: its concept, a tag or a synonym. Empty if the row has none."""
    others, draw = row.get(f"synonyms{suffix}"), rng.random()
    if draw < shares.tag and row.get(f"tags{suffix}"):
        return str(rng.choice(row[f"tags{suffix}"]))
    if draw > 1 - shares.synonym and others:
        return str(others[int(len(others) * rng.random() ** 2)])
    return str(row.get(f"concept{suffix}") or "")


_LANGUAGES: dict[str, tuple[str, Say]] = {"en": ("", english_caption), "zh": ("_zh", chinese_caption)}


def plain_captions(name: str, name_zh: str, style: str) -> tuple[str, str]:
    """The two captions used for evaluation and written beside each picture."""
    words, words_zh = STYLE_WORDS[style]
    return f"{name}, {words} style", f"{name_zh}，{words_zh}风格"
