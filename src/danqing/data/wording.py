"""Open wording: sentences as users type them, about one thing that a plain caption names.

`wording.txt` is a grammar for both languages; `filler_words.txt` lists common words that may stand anywhere.
The sentences surround the subject with adjectives, places, quality tags, stories and other things. The text
encoder must learn to find the subject among them.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from danqing.data.captions import STYLE_WORDS, article, counted_caption
from danqing.data.scenes import COLOURS
from danqing.data.vocabulary import vocabulary
from danqing.data.wording_grammar import filler_words, grammar

SUFFIXES = {"en": "", "zh": "_zh"}
_SLOT = re.compile(r"\{([^\w{}]*)([\w.-]+)(\??)\}")
_DEEPEST = 12
_DETERMINERS = ("@",) * 9 + (
    "the",
    "the",
    "my",
    "this",
    "one",
    "some",
    "our",
    "that",
    "your",
    "her",
    "",
    "",
    "",
)
_DETERMINERS_ZH = (
    "一只",
    "一只",
    "一个",
    "一个",
    "一个",
    "一张",
    "一朵",
    "一条",
    "一把",
    "一辆",
    "那只",
    "这个",
    "我的",
    "几个",
    "一些",
)
_NUMBERS_ZH = {2: ("两", "二", "2"), 3: ("三", "3"), 4: ("四", "4")}
_LAST_ZH = ("一只", "一个", "一张", "一朵", "一把", "一枚")
_ONSETS = (*"bcdfghklmnprstvwz", "st", "tr", "pl")
_RHYMES = (*"aeiou", "ai", "ee", "or", "an", "il")
_MEASURES_ZH = ("只", "个", "个", "朵", "条", "把", "辆", "张")


@dataclass(frozen=True)
class Subject:
    """The subject of a sentence.

    thing: its plain English name.
    name: its English name in the sentence, perhaps a synonym.
    name_zh: the same in Chinese.
    colour: a name in `scenes.COLOURS`.
    count: a number in `captions.COUNTS`.
    """

    thing: str
    name: str
    name_zh: str
    colour: str | None = None
    count: int | None = None


def plain_caption(subject: Subject, language: str, style: str | None) -> str:
    """A caption as the painter was trained on: "two red cars, flat style", or "一只猫" without a style."""
    if language == "zh":
        colour = COLOURS[subject.colour][0] if subject.colour else ""
        number = counted_caption(subject.thing, "", subject.count, animal=False) if subject.count else None
        text = f"{number[1] if number else ''}{colour}{subject.name_zh}"
        return text if style is None else f"{text}，{STYLE_WORDS[style][1]}风格"
    name = f"{subject.colour} {subject.name}" if subject.colour else subject.name
    several = counted_caption(name, "", subject.count, animal=False) if subject.count else None
    name = several[0] if several else name
    text = f"{article(name)} {name}".strip()
    return text if style is None else f"{text}, {STYLE_WORDS[style][0]} style"


def open_caption(subject: Subject, language: str, style: str | None, rng: random.Random) -> str:
    """A random sentence as users type it, in "en" or "zh", rarely in both.

    It names the style, if there is one.
    """
    suffix = SUFFIXES[language]
    kind = rng.choices(("short", "tagged", "sentence", "free", "mixed"), (3.5, 3, 6.5, 3, 0.6))[0]
    rule = kind if kind == "mixed" else kind + suffix
    text = _Expander(subject, rng).expand(rule)
    if style is not None:
        text = _add_style(text, style, language, rng)
    return _with_slips(text, rng)


@dataclass
class _Expander:
    """Expands rules of the grammar for one sentence."""

    subject: Subject
    rng: random.Random
    depth: int = field(default=0)

    def expand(self, rule: str) -> str:
        """A random text by that rule."""
        made = self._special(rule)
        if made is not None:
            return made
        text = self.rng.choice(grammar()[rule])
        self.depth += 1
        text = _SLOT.sub(self._slot, text)
        self.depth -= 1
        return text

    def _slot(self, match: re.Match[str]) -> str:
        before, rule, maybe = match.groups()
        if maybe and self.rng.random() < 0.5:
            return ""
        return f"{before}{self.expand(rule)}"

    def _special(self, rule: str) -> str | None:
        """The text of a rule outside the grammar (subject, other things, filler words); None for others."""
        rng = self.rng
        if rule == "np":
            return self._english()
        if rule == "np_zh":
            return self._chinese()
        if rule in ("known", "known_zh"):
            others = [both for both in vocabulary().items() if both[0] != self.subject.thing]
            return rng.choice(others)[rule == "known_zh"]
        if rule in ("filler", "fillerword"):
            word = rng.choice(filler_words("en")) if rng.random() < 0.8 else _invent(rng)
            return word + rng.choice(("", "", "", "s", "ed", "ing", "ly"))
        if rule == "filler_zh":
            return rng.choice(filler_words("zh"))
        return None

    def _english(self) -> str:
        rng, subject, name = self.rng, self.subject, self.subject.name
        several = counted_caption(name, "", subject.count, animal=False) if subject.count else None
        several = (
            counted_caption(name, "", 2, animal=False) if several is None and rng.random() < 0.12 else several
        )
        adjectives = [self.expand("adj") for _ in range(rng.choices((0, 1, 2, 3), (50, 32, 13, 5))[0])]
        if rng.random() < 0.08:
            adjectives.append("-".join(self.expand("fillerword") for _ in range(rng.choice((1, 1, 2, 3)))))
        first = rng.choice(_DETERMINERS)
        if several is not None:
            number, name = several[0].split(" ", 1)
            first = number if subject.count else rng.choice(("", "", "the", "some", "many"))
        after = ""
        if subject.colour and rng.random() < 0.12:
            after = rng.choice((f" in {subject.colour}", f" that is {subject.colour}", f", {subject.colour}"))
        elif subject.colour:
            adjectives.append(subject.colour)
        name = _slip(name, rng) if rng.random() < 0.04 else name
        joint = ", " if rng.random() < 0.2 else " "
        return " ".join(word for word in (first, joint.join(adjectives), name) if word) + after

    def _chinese(self) -> str:
        rng, subject = self.rng, self.subject
        adjectives = "".join(self.expand("adj_zh") for _ in range(rng.choices((0, 1, 2), (55, 35, 10))[0]))
        first = rng.choice(_DETERMINERS_ZH) if rng.random() < 0.6 else ""
        if subject.count and counted_caption(subject.thing, "", subject.count, animal=False):
            first = rng.choice(_NUMBERS_ZH[subject.count]) + rng.choice(_MEASURES_ZH)
        colour = COLOURS[subject.colour][0] if subject.colour else ""
        if colour and rng.random() < 0.3:
            colour = colour.removesuffix("的")
        last = rng.choice(_LAST_ZH) if not first and rng.random() < 0.12 else ""
        return f"{first}{adjectives}{colour}{subject.name_zh}{last}"


def _add_style(text: str, style: str, language: str, rng: random.Random) -> str:
    """The sentence with the style added to it."""
    written = language if rng.random() < 0.96 else rng.choice(("en", "zh"))
    suffix = SUFFIXES[written]
    words = rng.choice(grammar()[f"style{suffix}.{style}"])
    form = rng.choice(grammar()[f"styled{SUFFIXES[language]}"])
    return form.replace("{style}", words).replace("{x}", text)


def _with_slips(text: str, rng: random.Random) -> str:
    """The sentence with typing errors: missing articles, other upper or lower case, rarely a wrong letter."""
    missing = rng.random() < 0.08
    text = re.sub(r"@ (\w+)", lambda match: _with_article(match[1], missing), text)
    text = re.sub(r"  +", " ", text).replace(" ,", ",").strip()
    case = rng.random()
    if case < 0.12:
        text = text[:1].upper() + text[1:]
    elif case < 0.16:
        text = text.upper()
    elif case < 0.3:
        text = text.lower()
    elif case < 0.34:
        text = text.title()
    if rng.random() < 0.12:
        text = text.replace(", ", rng.choice((" ", ",", " , ", "; ", " and ")))
    if rng.random() < 0.1:
        text += rng.choice((".", "!", "...", "!!", ",", " :)"))
    return _slip(text, rng) if rng.random() < 0.07 else text


def _with_article(word: str, missing: bool) -> str:
    before = "" if missing else article(word)
    return f"{before} {word}" if before else word


def _slip(text: str, rng: random.Random) -> str:
    """Double, drop or swap one letter in a word of at least four letters."""
    words = list(re.finditer(r"[A-Za-z]{4,}", text))
    if not words:
        return text
    word = rng.choice(words)
    place = rng.randrange(word.start() + 1, word.end() - 1)
    here, after = text[place], text[place + 1]
    slipped = rng.choice((here + here + after, after, after + here))
    return text[:place] + slipped + text[place + 2 :]


def _invent(rng: random.Random) -> str:
    syllables = rng.choice((1, 2, 2, 3))
    return "".join(rng.choice(_ONSETS) + rng.choice(_RHYMES) for _ in range(syllables))
