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

_OPENINGS = ("", "", "{a} ", "{a} ", "{a} cute ", "a picture of {a} ", "an icon of {a} ", "a drawing of {a} ")
_OPENINGS_ZH = ("", "", "一个", "一只", "一张图，", "可爱的", "画一个", "一只可爱的")
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


_SAID_WITH_CONSONANT = ("eu", "one-", "ufo", "uni", "use", "uk")  # a unicorn
_SAID_WITH_VOWEL = ("heir", "honest", "honor", "honour", "hour")  # an hourglass


def article(name: str) -> str:
    """`a` or `an`, by how the word sounds."""
    word = name.lower()
    vowel = word.startswith(tuple("aeiou")) and not word.startswith(_SAID_WITH_CONSONANT)
    return "an" if vowel or word.startswith(_SAID_WITH_VOWEL) else "a"


def english(name: str, style: str | None, rng: random.Random) -> str:
    """One of many ways to say it in English."""
    opening = rng.choice(_OPENINGS).format(a=article(name))
    if style is None:
        return opening + name
    return rng.choice(_STYLED).format(thing=opening + name, style=STYLE_WORDS[style][0])


def chinese(name: str, style: str | None, rng: random.Random) -> str:
    """One of many ways to say it in Chinese."""
    thing = rng.choice(_OPENINGS_ZH) + name
    if style is None:
        return thing
    return rng.choice(_STYLED_ZH).format(thing=thing, style=STYLE_WORDS[style][1])


@dataclass(frozen=True)
class Shares:
    """Captions, in [0, 1], that call the thing by a tag or a synonym, and that leave the style out."""

    tag: float = 0.0
    synonym: float = 0.0
    unstyled: float = 0.0


def said(row: Mapping[str, Any], language: str, rng: random.Random, shares: Shares) -> str:
    """One of many captions in "en" or "zh" for a row of a data set; of synonyms, rather an early one.

    A row that does not tell concept and style has its written caption only.
    """
    suffix, say = _LANGUAGES[language]
    if not row.get(f"concept{suffix}") or not row.get("style"):
        return str(row.get(f"text{suffix}") or row["text"])
    name, others = str(row[f"concept{suffix}"]), row.get(f"synonyms{suffix}", ())
    draw = rng.random()
    if draw < shares.tag and row.get(f"tags{suffix}"):
        name = rng.choice(row[f"tags{suffix}"])
    elif draw > 1 - shares.synonym and others:
        name = others[int(len(others) * rng.random() ** 2)]
    return say(name, None if rng.random() < shares.unstyled else str(row["style"]), rng)


_LANGUAGES: dict[str, tuple[str, Say]] = {"en": ("", english), "zh": ("_zh", chinese)}


def plain(name: str, name_zh: str, style: str) -> tuple[str, str]:
    """The two captions used for evaluation and written beside each picture."""
    words, words_zh = STYLE_WORDS[style]
    return f"{name}, {words} style", f"{name_zh}，{words_zh}风格"
