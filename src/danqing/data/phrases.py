"""Reduces a prompt to phrases that may name its subject: drops requests, places, verbs and styles."""

from __future__ import annotations

import re
from functools import cache

from danqing.data.thing_names import named_zh
from danqing.data.wording_grammar import grammar

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

_REQUESTS = re.compile(
    r"\b(?:please|draw|paint|sketch|make|create|generate|design|show|give|want|wants|need|needs|like|love|loves"
    r"|see|render|there is|there was|there lived|there's|lived|here is|this is|it is|it's|imagine|about)\b"
    r"(?: me| us)?"
)

_INVERTED = re.compile(  # "in a hole under the oak lived a rabbit"
    rf"^(?:{_PREPOSITIONS}) .{{3,40}}? (?:lived|lives|stood|stands|sat|sits|lay|lies)"
    r" (?=(?:an?|the|one|some|my)\b)"
)

_RELATIVE = re.compile(r"\b(?:who|that|which)\b")

EARLY = 4  # most words that may stand before a request: "could you please draw"

_BLANK = re.compile(
    r"\b(?:a|an|the|my|his|her|our|your|their|this|that|some|one|can|could|would|you|u|i|we|us|me|what|does|do|how|look|looks)\b"
)


def phrases(prompt: str) -> list[str]:
    """The noun phrases of an English prompt, one for each clause, lower case, the likeliest subject first."""
    text = re.sub(r"\(([^():]+)(?::[\d.]+)?\)|--\w+(?: [\d.:]+)?|::[\d.]+", r"\1", prompt.lower())
    clauses = [each.strip() for each in re.split(r"[,.;:!?\n|]|\s-\s", text) if each.strip()]
    cores = [core for core in map(_clause, clauses) if core]
    requests = [
        _clause(each)
        for each in clauses[1:]
        if re.match(r"(?:so |and |but )?(?:please )?(?:draw|paint)\b", each)
    ]
    return [core for core in [*requests, *cores] if not _is_style(core)]


def _clause(text: str) -> str:
    """The noun phrase of a clause, without its opening words and without what follows the noun."""
    opening = _OPENINGS.match(text)
    if opening is not None and not _CUTS.search(opening[0].removesuffix(" of")):
        text = text[opening.end() :]
    text = _INVERTED.sub("", text)
    while match := _REQUESTS.search(text):
        before, rest = text[: match.start()], text[match.end() :]
        if not rest.strip() or len(before.split()) > EARLY or _RELATIVE.search(before):
            break
        text = rest
    text = re.sub(rf"^\s*(?:{_PREPOSITIONS})\b", "", text) if _CUTS.match(text.strip()) else text
    words = [part for part in _CUTS.split(text) if _BLANK.sub("", part).strip()]
    return _BLANK.sub("", words[0]).strip() if words else ""


def _is_style(core: str) -> bool:
    return core in _styles()


@cache
def _styles() -> frozenset[str]:
    rules = (
        rule for rule in grammar() if rule.startswith("style.") or rule in ("tag", "medium", "request", "adj")
    )
    return frozenset(way.lower() for rule in rules for way in grammar()[rule])


_REQUESTS_ZH = re.compile(r"(?:主要画|请画|帮我画|给我画|要画|只画|画)(?:一[张幅个只])?")

_CUTS_ZH = re.compile(
    r"[在和跟与]|.着|飞过|飞向|飞越|跑过|走过|游过|跳过|穿过|路过|旁边|站|坐|躺|拿着|戴着|穿着|抱着|端着|拿着|手拿|叼|追|打|骑|吃|喝|看|给|从|把|被|里装|上空|上有|里有|下面|后面|前面|背景"
)


def phrases_zh(prompt: str) -> list[str]:
    """The noun phrases of a Chinese prompt, one for each clause, the likeliest subject first."""
    clauses = [each.strip() for each in re.split(r"[，。,.；;：:！!？?、\s]", prompt) if each.strip()]
    for each in clauses[1:]:
        if match := _REQUESTS_ZH.match(each):
            return [each[match.end() :]]
    cores = [_clause_zh(each) for each in clauses]
    return [
        core
        for core in cores
        if core and not _is_style_zh(core) and (not core.endswith("了") or named_zh(core))
    ]


_WISHED_ZH = re.compile(r"^我?(?:想要|想吃|想喝|想看|很想|超想|好想|想)(?=.)")

_THERE_ZH = re.compile(r"^(?!旁|背|远|后|前|边).{1,8}?(?:里|上|下|边|中|前|后)面?有(?=.)")  # "桌子上有一只猫"

_AROUND_ZH = re.compile(r"旁边|背景|远处|后面|前面|边上|在[^的]*$")  # a clause about the surroundings

_MEDIUM_ZH = re.compile(r"(?<=.)的?(?:图片|图标|图案|图|插画|插图|贴纸|头像|表情包|照片|剪影)$")


def _clause_zh(text: str) -> str:
    text = _WISHED_ZH.sub("", _REQUESTS_ZH.sub("", text))
    text = _MEDIUM_ZH.sub("", _THERE_ZH.sub("", text))
    if "的" in text:
        head = text.rsplit("的", 1)[1]
        if len(head) >= 1 and not _CUTS_ZH.match(head):
            text = head
    if _AROUND_ZH.match(text):
        return ""
    parts = [part for part in _CUTS_ZH.split(text) if part]
    return parts[0] if parts else ""


def _is_style_zh(core: str) -> bool:
    return any(
        core in ways for rule, ways in grammar().items() if rule.startswith("style_zh") or rule == "tag_zh"
    )
