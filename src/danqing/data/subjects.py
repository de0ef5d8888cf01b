"""What a prompt is about, and whether the shipped model has learned it: without a network, by words alone.

A sentence is cut down to what it names first: openings ("please draw me a picture of"), what follows a
preposition, a relative clause or a verb ("a robot holding | a red heart"), and words for styles go. If the
rest names a thing of the vocabulary, by its name or by another word of the lexicon, that is the subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from importlib import resources

from danqing.conditioning.prompt import is_chinese
from danqing.data.lexicon import lexicon
from danqing.data.synonyms import listed
from danqing.data.vocabulary import vocabulary
from danqing.data.ways import grammar

TRUSTED = 25  # words of the lexicon for each thing, the nearest in meaning, that count as learned


@dataclass(frozen=True)
class Subject:
    """name: the English name of the learned thing that a prompt is about; None if nothing learned is.

    nearest: where it is None, three learned things that are a little like it, named in the prompt's language;
    none where the prompt names nothing at all.
    """

    name: str | None
    nearest: tuple[str, ...] = ()


def find_subject(prompt: str) -> Subject:
    """What a prompt in English or Chinese is about."""
    chinese = is_chinese(prompt)
    cores = (_cores_zh if chinese else _cores)(prompt)
    first = cores[0] if cores else ""
    named = _named_zh if chinese else _named
    name = named(first)
    if name is None and not _strange(first, chinese=chinese):
        # said otherwise before: "the king of the savanna, a lion"; "老花镜，眼镜"
        name = next(
            (named(core) for core in cores[1:] if core.strip() in _known() or core in _known_zh()), None
        )
    if name is None and not _strange(first, chinese=chinese):
        name = _slipped(first) or _first_zh(prompt) if chinese else _slipped(first) or _first(prompt)
    if name is None and not chinese and _is_tale(prompt, first):
        name = _first(prompt)
    if name is None and chinese:  # a thing may have its English name in a Chinese sentence
        name = _named(" ".join(_cores(prompt)[:1]))
    if name is None:
        name = _only(prompt.lower(), chinese=chinese)
    return Subject(name) if name is not None else Subject(None, _nearest(first, chinese=chinese))


_PREPOSITIONS = (
    "on|in|at|under|above|below|behind|beside|near|by|with|without|over|from|inside|outside|between|among|against"
    "|around|through|across|into|onto|beneath|underneath|amid|along|beyond|toward|towards|upon|like|for|to|during"
    "|next to|in front of|on top of|close to|surrounded by|made of|of|off|before|after|until|as"
)
_CUTS = re.compile(
    rf"\b(?:[a-z]{{3,}}ing(?= (?:an?|the|his|her|my|its|their|some|two|three)\b)|{_PREPOSITIONS}|and|or|but"
    r"|that|which|who|whose|where|when|while|because|so|if|is|are|was|were|has|had"
    r"|have|(?<!-)(?!(?:ceiling|wedding|evening|morning|flying|sleeping|running|smiling|laughing|dancing|sitting"
    r"|glowing|shooting|standing|swimming|jumping|crying|burning|boxing|sewing|washing|vacuuming|king|ring|wing"
    r"|string|spring|amazing|charming|sailing|hanging|lightning|shining|walking|talking|singing|rocking|steaming"
    r"|growing|melting|floating|living|snoring|barking|howling|roaring|dreaming|falling|stunning|adoring|clothing"
    r"|building|painting|drawing|thing|nothing|something|anything|everything)\b)[a-z]{2,}ing)\b"
)
_OPENINGS = re.compile(
    r"^(?:\S+ ){0,5}?(?:picture|image|icon|drawing|photo|photograph|painting|portrait|illustration|sticker"
    r"|sketch|emoji|logo|render|rendering|silhouette|close-up|closeup|story|pair|bunch|plate|bowl|piece|slice"
    r"|loaf|bouquet|herd|flock|group|couple|set|kind|sort|type|field|glass|basket|handful|pile|bag|pot|jar"
    r"|king|queen|statue|figure|symbol|shape|pack|row|school|swarm|dozen|lots|lot|version|tattoo|head)s? of\b"
)
_ASKED = re.compile(
    r"\b(?:please|draw|paint|sketch|make|create|generate|design|show|give|want|wants|need|needs|like|love|loves"
    r"|see|render|there is|there was|there lived|there's|lived|here is|this is|it is|it's|imagine|about)\b"
    r"(?: me| us)?"
)
_INVERTED = re.compile(  # "in a hole under the oak lived a rabbit"
    rf"^(?:{_PREPOSITIONS}) .{{3,40}}? (?:lived|lives|stood|stands|sat|sits|lay|lies)"
    r" (?=(?:an?|the|one|some|my)\b)"
)
_RELATIVE = re.compile(r"\b(?:who|that|which)\b")
EARLY = 4  # words before a request: "could you please draw"
_BLANK = re.compile(
    r"\b(?:a|an|the|my|his|her|our|your|their|this|that|some|one|can|could|would|you|u|i|we|us|me|what|does|do|how|look|looks)\b"
)


def _cores(prompt: str) -> list[str]:
    """The words of what the clauses of an English prompt name, lower case, the likeliest first."""
    said = re.sub(r"\(([^():]+)(?::[\d.]+)?\)|--\w+(?: [\d.:]+)?|::[\d.]+", r"\1", prompt.lower())
    clauses = [each.strip() for each in re.split(r"[,.;:!?\n|]|\s-\s", said) if each.strip()]
    cores = [core for core in map(_clause, clauses) if core]
    asked = [
        _clause(each)
        for each in clauses[1:]
        if re.match(r"(?:so |and |but )?(?:please )?(?:draw|paint)\b", each)
    ]
    return [core for core in [*asked, *cores] if not _is_style(core)]


def _clause(said: str) -> str:
    """What a clause names, without openings and what hangs on it."""
    opening = _OPENINGS.match(said)
    if opening is not None and not _CUTS.search(opening[0].removesuffix(" of")):
        said = said[opening.end() :]
    said = _INVERTED.sub("", said)
    while found := _ASKED.search(said):
        before, rest = said[: found.start()], said[found.end() :]
        if not rest.strip() or len(before.split()) > EARLY or _RELATIVE.search(before):
            break
        said = rest
    said = re.sub(rf"^\s*(?:{_PREPOSITIONS})\b", "", said) if _CUTS.match(said.strip()) else said
    words = [part for part in _CUTS.split(said) if _BLANK.sub("", part).strip()]
    return _BLANK.sub("", words[0]).strip() if words else ""


def _is_style(core: str) -> bool:
    return core in _styles()


@cache
def _styles() -> frozenset[str]:
    rules = (
        rule for rule in grammar() if rule.startswith("style.") or rule in ("tag", "medium", "request", "adj")
    )
    return frozenset(way.lower() for rule in rules for way in grammar()[rule])


def _named(core: str) -> str | None:
    """The learned thing named last in a phrase, which is its head."""
    words = re.findall(r"[a-z0-9'-]+", core)
    words = [word.removesuffix("'s") for word in words]
    for end in range(len(words), 0, -1):
        for start in range(max(0, end - 3), end):
            said = " ".join(words[start:end])
            if {said, _single(said)} & _strangers().keys():
                return None
            found = _known().get(" ".join(words[start:end])) or _known().get(
                _single(" ".join(words[start:end]))
            )
            if found is not None:
                return found
    return None


TALE = 13  # words of a sentence that is a tale
LONG, LONG_ZH = 9, 12  # words or characters of a sentence that may come to its subject late


def _is_tale(prompt: str, first: str) -> bool:
    """Whether an English sentence is long and begins with somebody, or with a place or a time."""
    strange = {word for word in first.split() if word in _strangers()}
    return len(prompt.split()) >= TALE and strange <= _people() | _AROUND


def _first(prompt: str) -> str | None:
    """The thing that a long English sentence names first, under its own name, if it names nothing strange."""
    words = re.findall(r"[a-z0-9-]+", prompt.lower().replace("'s", ""))
    if len(words) < LONG:
        return None
    for start in range(len(words)):
        for end in range(start + 3, start, -1):
            said = " ".join(words[start:end])
            if {said, _single(said)} & _strangers().keys():
                if {said, _single(said)} & (_AROUND | _people()):
                    break
                return None
            found = _plainly().get(said) or _plainly().get(_single(said))
            if found is not None:
                return found
    return None


def _first_zh(prompt: str) -> str | None:
    """The same of a Chinese one."""
    if len(prompt) < LONG_ZH:
        return None
    strange = [
        prompt.find(word)
        for word in _strangers().keys() - _AROUND - _people()
        if len(word) > 1 and word in prompt
    ]
    known = [(prompt.find(word), -len(word), thing) for word, thing in _plainly().items() if word in prompt]
    known = [each for each in known if -each[1] > 1 or len(known) == 1]
    return min(known)[2] if known and min(known)[0] <= min(strange, default=len(prompt)) else None


def _only(said: str, *, chinese: bool) -> str | None:
    """The one thing that a prompt names by a name of ours, where nothing else could be meant."""
    strangers = _strangers().keys()
    if chinese:
        if any(len(word) > 1 and word in said for word in strangers):
            return None
        found = {thing for word, thing in _plainly().items() if len(word) > 1 and word in said}
        return found.pop() if len(found) == 1 else None
    words = re.findall(r"[a-z0-9-]+", said.replace("'s", ""))
    parts = {" ".join(words[k : k + size]) for size in (1, 2, 3) for k in range(len(words))}
    parts |= {_single(part) for part in parts}
    if parts & strangers:
        return None
    found = {_plainly()[part] for part in parts & _plainly().keys()}
    return found.pop() if len(found) == 1 else None


def _slipped(core: str) -> str | None:
    """The thing whose name is misspelled in a phrase by a letter or two."""
    words = [word for word in core.split() if len(word) >= LEAST]
    found = [get_close_matches(word, _single_names(), n=1, cutoff=CLOSE) for word in words]
    return next((_plainly()[names[0]] for names in reversed(found) if names), None)


@cache
def _people() -> frozenset[str]:
    return frozenset(word for word, nearest in _strangers().items() if nearest == _LIKE_PEOPLE)


_LIKE_PEOPLE = ("snowman", "teddy bear", "monkey")
LEAST, CLOSE = 5, 0.86  # letters of a word that may be misspelled, and how like it is then
_AROUND = frozenset(
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
)  # who tells of a thing, and where it is


@cache
def _single_names() -> tuple[str, ...]:
    return tuple(name for name in _plainly() if name.isascii() and " " not in name and len(name) >= LEAST)


@cache
def _plainly() -> Mapping[str, str]:
    """Names of ours alone, in both languages -> the thing."""
    words = {word: thing for side in (0, 1) for thing, all_ in _sides(_own(), side).items() for word in all_}
    plain = {name: thing for thing, chinese in vocabulary().items() for name in (thing.lower(), chinese)}
    return words | plain


def _strange(core: str, *, chinese: bool) -> bool:
    """Whether a phrase names something that is known not to be learned."""
    if chinese:
        return any(name in core for name in _strangers())
    words = core.split()
    return any(_single(word) in _strangers() or word in _strangers() for word in words)


@cache
def _strangers() -> Mapping[str, tuple[str, ...]]:
    """A thing that is not learned, in either language -> three learned ones that are a little like it."""
    text = (resources.files("danqing.data") / "strangers.txt").read_text("utf-8")
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
    return listed(resources.files("danqing.data") / "synonyms.txt")


def _single(name: str) -> str:
    """An English name in the singular, roughly."""
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


_ASKED_ZH = re.compile(r"(?:主要画|请画|帮我画|给我画|要画|只画|画)(?:一[张幅个只])?")
_CUTS_ZH = re.compile(
    r"[在和跟与]|.着|飞过|飞向|飞越|跑过|走过|游过|跳过|穿过|路过|旁边|站|坐|躺|拿着|戴着|穿着|抱着|端着|拿着|手拿|叼|追|打|骑|吃|喝|看|给|从|把|被|里装|上空|上有|里有|下面|后面|前面|背景"
)


def _cores_zh(prompt: str) -> list[str]:
    """The characters of what the clauses of a Chinese prompt name, the likeliest first."""
    clauses = [each.strip() for each in re.split(r"[，。,.；;：:！!？?、\s]", prompt) if each.strip()]
    for each in clauses[1:]:
        if found := _ASKED_ZH.match(each):
            return [each[found.end() :]]
    cores = [_clause_zh(each) for each in clauses]
    return [
        core
        for core in cores
        if core and not _is_style_zh(core) and (not core.endswith("了") or _named_zh(core))
    ]


_WISHED_ZH = re.compile(r"^我?(?:想要|想吃|想喝|想看|很想|超想|好想|想)(?=.)")
_THERE_ZH = re.compile(r"^(?!旁|背|远|后|前|边).{1,8}?(?:里|上|下|边|中|前|后)面?有(?=.)")  # "桌子上有一只猫"
_AROUND_ZH = re.compile(r"旁边|背景|远处|后面|前面|边上|在[^的]*$")  # a clause of what is around
_MEDIUM_ZH = re.compile(r"(?<=.)的?(?:图片|图标|图案|图|插画|插图|贴纸|头像|表情包|照片|剪影)$")


def _clause_zh(said: str) -> str:
    said = _WISHED_ZH.sub("", _ASKED_ZH.sub("", said))
    said = _MEDIUM_ZH.sub("", _THERE_ZH.sub("", said))
    if "的" in said:
        head = said.rsplit("的", 1)[1]
        if len(head) >= 1 and not _CUTS_ZH.match(head):
            said = head
    if _AROUND_ZH.match(said):
        return ""
    parts = [part for part in _CUTS_ZH.split(said) if part]
    return parts[0] if parts else ""


def _is_style_zh(core: str) -> bool:
    return any(
        core in ways for rule, ways in grammar().items() if rule.startswith("style_zh") or rule == "tag_zh"
    )


def _named_zh(core: str) -> str | None:
    """The learned thing whose name stands last in a phrase, the longest of those."""
    strange = max(
        ((core.rfind(name) + len(name), len(name)) for name in _strangers() if name in core), default=(0, 0)
    )
    found = [
        (core.rfind(name) + len(name), len(name), thing)
        for name, thing in _known_zh().items()
        if name in core
    ]
    return max(found)[2] if found and max(found)[:2] > strange else None


@cache
def _known() -> Mapping[str, str]:
    return _names(0)


@cache
def _known_zh() -> Mapping[str, str]:
    return {**_names(1), **{chinese: name for name, chinese in vocabulary().items()}}


def _names(side: int) -> dict[str, str]:
    """Every name that counts as learned -> the thing; the plain names last, so that they win."""
    known: dict[str, str] = {}
    for words in ({thing: both[side][:TRUSTED] for thing, both in lexicon().items()}, _sides(_own(), side)):
        for thing, others in words.items():
            known.update(dict.fromkeys(others, thing))
    return {**known, **{thing.lower(): thing for thing in vocabulary()}}


def _sides(
    words: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]], side: int
) -> dict[str, tuple[str, ...]]:
    return {thing: both[side] for thing, both in words.items()}


def _nearest(core: str, *, chinese: bool, count: int = 3) -> tuple[str, ...]:
    """Learned things that are a little like a phrase: by the list of strangers, or as it is spelled."""
    names = vocabulary()
    if not core.strip():
        return ()
    alike = [
        near for word, near in _strangers().items() if (word in core if chinese else word in core.split())
    ]
    if alike:
        return tuple(names[thing] for thing in alike[-1]) if chinese else alike[-1]
    spelled: Iterable[str] = names.values() if chinese else names
    likeness = {name: SequenceMatcher(None, core, name).ratio() for name in spelled}
    return tuple(sorted(likeness, key=lambda name: -likeness[name])[:count])
