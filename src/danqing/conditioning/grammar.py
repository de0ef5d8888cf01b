r"""The language of prompts, as people know it from A1111 and Midjourney, read into plain data.

    (word:1.2) (word) [word]     weigh by 1.2, by 1.1, by 1 / 1.1; inside each other they multiply
    [a:b:0.5] [a:0.5] [a::0.5]   a, then b after half of the steps; a from there on; a until there
    [a:b:7]                      a whole number of 1 or more counts steps: b after seven
    [a|b|c]                      one after the other, a step each
    a BREAK b                    b is encoded by itself, and the network sees both
    a::2 b::-1                   predictions of several parts, in shares that are divided by their sum
    a AND b:0.5                  predictions of several parts, whose pulls are added (arXiv 2206.01714)
    \( \[ \: \| \\ \AND ...      the character or the word itself
    （词：1.2） ［a｜b］            full-width marks and digits do as their half-width twins

What a request means is decided in this order, each stage seeing what the one before it left: parameters at
the end (`parameters`), wildcards by the picture's seed (`wildcards`), references to adapters (`references`),
and then, here, parts, chunks between BREAKs, and inside of them weights and schedules.

Nothing is an error here: a bracket without its partner, a weight that is no number and a lone backslash are
ordinary characters. A bracket closes the nearest open one of its kind, and what was opened in between is
ordinary. AND and :: divide only outside of brackets.

One pass pairs the brackets, with a stack of its own, and one builds the spans: time is linear, and depth is
free. What comes out is flat: a span knows its whole weight and all of its steps, however deep it stood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile, groupby
from typing import NamedTuple

from danqing.conditioning.brackets import NUMBER, SKIPPED, STRONGER, Roles, roles_of
from danqing.conditioning.prompt_schedule import ALWAYS, StepRange, decimal
from danqing.core.errors import BadBrief, shorten
from danqing.core.half_width import split_marks, sub_marks

WEIGHT_MAX = 1000.0

_ESCAPED = re.compile(r"[()\[\]{}<>|:\\]|\b(?:AND|BREAK)\b")
_SPECIAL = re.compile(r"(\\(?:AND|BREAK|[()\[\]{}<>|:\\])|\b(?:AND|BREAK)\b|[()\[\]:|])")
_SHARE = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?![\w.])")


@dataclass(frozen=True)
class Span:
    """Words of one weight, in [-1000, 1000], that hold at the steps `when`."""

    text: str
    weight: float = 1.0
    when: StepRange = ALWAYS


Chunk = tuple[Span, ...]
"""Words that are encoded together."""


@dataclass(frozen=True)
class Part:
    """Words that give one prediction: at least one chunk, and how much the prediction counts."""

    chunks: tuple[Chunk, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Prompt:
    """At least one part. `blend`: the weights are shares of one whole (::), not pulls to be added (AND)."""

    parts: tuple[Part, ...]
    blend: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """How much the prediction of each part counts; those of a blend sum to 1.

        Raises:
            BadBrief: the weights of a blend sum to 0 or less.
        """
        weights = tuple(part.weight for part in self.parts)
        if not self.blend:
            return weights
        if sum(weights) <= 0:
            text = shorten(render(self))
            raise BadBrief(f"the weights of {text!r} sum to {sum(weights):g}: make the sum more than 0")
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def is_scheduled(self) -> bool:
        """Whether the words change on the way."""
        return any(span.when != ALWAYS for part in self.parts for chunk in part.chunks for span in chunk)

    def at(self, step: int, of: int) -> Prompt:
        """What holds at step `step`, counted from 0, of `of` steps."""
        if not self.is_scheduled:
            return self
        return replace(self, parts=tuple(_part_at(part, step, of) for part in self.parts))


def text_of(chunk: Chunk) -> str:
    """The words of a chunk, without their weights."""
    return "".join(span.text for span in chunk)


def is_weighted(chunk: Chunk) -> bool:
    """Whether some words of a chunk have another weight than 1."""
    return any(span.weight != 1 for span in chunk)


def parse(text: str, *, whole: bool = False) -> Prompt:
    """What `text` says. Never raises: any text says something.

    whole: it is a single part, with AND and :: as ordinary words, as in a negative prompt.
    """
    tokens, typed = ([token for token in tokens if token] for tokens in split_marks(_SPECIAL, text))
    roles = roles_of(tokens)
    cuts = [] if whole else list(_cuts(tokens, typed, roles))
    added, blend = any(cut.share is None for cut in cuts), any(cut.share is not None for cut in cuts)
    parts, start = [], 0
    for end, after, share in (*cuts, _Cut(len(tokens), len(tokens))):
        pull = _pull(tokens[start:end][-2:]) if added and share is None else None
        chunks = _chunks(tokens, typed, roles, range(start, end if pull is None else end - 2))
        weight = next((each for each in (share, pull) if each is not None), 1.0)
        parts += [Part(chunks, weight)] if chunks else []
        start = after
    return Prompt(tuple(parts), blend) if parts else Prompt((Part(((),)),))


def render(prompt: Prompt) -> str:
    """The text that says `prompt`, always the same one: what `parse` reads back as an equal prompt."""
    texts = [" BREAK ".join(map(_render, part.chunks)) for part in prompt.parts]
    weights = [part.weight for part in prompt.parts]
    if prompt.blend:
        return " ".join(f"{text}::{decimal(weight)}" for text, weight in zip(texts, weights, strict=True))
    if weights == [1.0]:
        return texts[0]
    pulls = ["" if weight == 1 else f" :{decimal(weight)}" for weight in weights]
    alone = "AND " if len(texts) == 1 else ""
    return alone + " AND ".join(map("".join, zip(texts, pulls, strict=True)))


class _Cut(NamedTuple):
    """A part ends before token `end`, the next begins at `after`. share: what :: gives it; None is AND."""

    end: int
    after: int
    share: float | None = None


def _cuts(tokens: list[str], typed: list[str], roles: Roles) -> Iterator[_Cut]:
    """Where parts end. A number right after :: is taken away from the words that follow it, in both lists."""
    depth = after = 0
    for i, token in enumerate(tokens):
        depth += roles.get(i, SKIPPED).depth
        if depth or i < after:
            continue
        if token == "AND":
            after = i + 1
            yield _Cut(i, after)
        elif token == ":" and tokens[i + 1 : i + 2] == [":"]:
            after = i + 2
            match = _SHARE.match(tokens[after]) if after < len(tokens) else None
            if match:
                tokens[after], typed[after] = tokens[after][match.end() :], typed[after][match.end() :]
            yield _Cut(i, after, _clamp(float(match[1]), 6) if match else 1.0)


def _pull(ending: Sequence[str]) -> float | None:
    """The weight that the last two tokens of a part give it: the 0.5 of "a fox :0.5"."""
    if len(ending) < 2 or ending[0] != ":":
        return None
    match = NUMBER.fullmatch(ending[1])
    return _clamp(float(match[1]), 6) if match else None


def _chunks(tokens: Sequence[str], typed: Sequence[str], roles: Roles, where: range) -> tuple[Chunk, ...]:
    chunks: list[list[Span]] = [[]]
    stack = [(1.0, ALWAYS)]
    for i in where:
        role, token = roles.get(i), tokens[i]
        if role is not None:
            del stack[len(stack) - role.pops :]
            if role.enters:
                (weight, when), (factor, steps) = stack[-1], role.enters
                stack.append((_clamp(weight * _clamp(factor)), when.both(steps)))
        elif token == "BREAK":
            chunks.append([])
        else:
            weight, when = stack[-1]
            escaped = token.startswith("\\") and _SPECIAL.fullmatch(token)
            chunks[-1].append(Span(typed[i][1:] if escaped else typed[i], _clamp(weight, 6), when))
    return tuple(chunk for chunk in map(_tidy, chunks) if chunk)


def _tidy(spans: Iterable[Span]) -> Chunk:
    """The spans that hold at some step, equal neighbours joined, without space around the whole."""
    spans_left = (span for span in spans if span.text and not span.when.never)
    joined = [
        Span("".join(span.text for span in alike), *kind)
        for kind, alike in groupby(spans_left, key=lambda span: (span.weight, span.when))
    ]
    from_end = list(dropwhile(_is_blank, reversed(list(dropwhile(_is_blank, joined)))))
    if from_end:
        from_end[0] = replace(from_end[0], text=from_end[0].text.rstrip())
        from_end[-1] = replace(from_end[-1], text=from_end[-1].text.lstrip())
    return tuple(reversed(from_end))


def _is_blank(span: Span) -> bool:
    return not span.text.strip()


def _part_at(part: Part, step: int, of: int) -> Part:
    chunks = [
        _tidy(Span(span.text, span.weight) for span in chunk if span.when.holds(step, of))
        for chunk in part.chunks
    ]
    return replace(part, chunks=tuple(chunk for chunk in chunks if chunk) or ((),))


def _render(chunk: Chunk) -> str:
    return "".join(span.when.around(_render_span(span)) for span in chunk)


def _render_span(span: Span) -> str:
    text = sub_marks(_ESCAPED, lambda _, typed: f"\\{typed}", span.text)
    if span.weight == 1:
        return text
    return f"({text})" if span.weight == STRONGER else f"({text}:{decimal(span.weight)})"


def _clamp(weight: float, places: int | None = None) -> float:
    weight = max(-WEIGHT_MAX, min(WEIGHT_MAX, weight))
    return weight if places is None else round(weight, places) + 0.0  # no -0.0
