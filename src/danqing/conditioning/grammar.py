r"""Parses the prompt syntax of A1111 and Midjourney.

    (word:1.2) (word) [word]     weights 1.2, 1.1 and 1 / 1.1; nested weights multiply
    [a:b:0.5] [a:0.5] [a::0.5]   a, then b after half of the steps; a after them; a until then
    [a:b:7]                      a whole number of 1 or more counts steps: b after seven steps
    [a|b|c]                      a, b and c alternate, one step each
    a BREAK b                    both are encoded separately, and the network attends to both
    a::2 b::-1                   several parts with a prediction each; weights are divided by their sum
    a AND b:0.5                  several parts; their guidance terms are added (arXiv 2206.01714)
    \( \[ \: \| \\ \AND ...      escapes: the character or the word itself
    （词：1.2） ［a｜b］            full-width syntax and digits mean the same as half-width ones

A prompt is read in this order; each stage works on the text that the one before it left: parameters at the
end (`parameters`), wildcards by the seed of the picture (`wildcards`), references to adapters (`references`),
and then, in this module, parts, chunks between BREAKs, and weights and schedules inside of chunks.

No text is an error: an unpaired bracket, a weight that is not a number and a single backslash are ordinary
characters. A closing bracket pairs with the nearest open one of its kind; brackets that were opened between
the two are ordinary characters. AND and :: separate parts only outside of brackets.

One pass pairs the brackets with an explicit stack, and a second one builds the spans, so time is linear and
nesting may be of any depth. The result is flat: each span has its total weight and its steps.
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
    """A piece of text with its weight, in [-1000, 1000], and the steps `when` it is active."""

    text: str
    weight: float = 1.0
    when: StepRange = ALWAYS


Chunk = tuple[Span, ...]
"""Spans that are encoded together, as one text."""


@dataclass(frozen=True)
class Part:
    """A part of a prompt with a prediction of its own: at least one chunk, and its weight."""

    chunks: tuple[Chunk, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt of at least one part.

    blend: whether the weights are divided by their sum (::); otherwise guidance terms are added (AND).
    """

    parts: tuple[Part, ...]
    blend: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each part; those of a blend sum to 1.

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
        """Whether the prompt changes between steps."""
        return any(span.when != ALWAYS for part in self.parts for chunk in part.chunks for span in chunk)

    def at(self, step: int, of: int) -> Prompt:
        """The prompt at step `step`, counted from 0, of `of` steps."""
        if not self.is_scheduled:
            return self
        return replace(self, parts=tuple(_part_at(part, step, of) for part in self.parts))


def text_of(chunk: Chunk) -> str:
    """The text of a chunk without weights."""
    return "".join(span.text for span in chunk)


def is_weighted(chunk: Chunk) -> bool:
    """Whether a span of the chunk has a weight other than 1."""
    return any(span.weight != 1 for span in chunk)


def parse(text: str, *, whole: bool = False) -> Prompt:
    """Parse a prompt. Never raises, because every text is a valid prompt.

    whole: read AND and :: as ordinary text, so that the result is a single part, as for a negative prompt.
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
    """The canonical text of a prompt: `parse` of it gives an equal prompt."""
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
    """The boundary of two parts: one ends before token `end`, the next begins at token `after`.

    share: the weight that :: gives the part before it; None for AND.
    """

    end: int
    after: int
    share: float | None = None


def _cuts(tokens: list[str], typed: list[str], roles: Roles) -> Iterator[_Cut]:
    """The boundaries of the parts. Removes a number right after :: from the tokens of both lists."""
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
    """The weight at the end of a part, such as the 0.5 of "a fox :0.5"; None where there is none.

    ending: the last two tokens of the part.
    """
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
    """The spans without those that are never active; neighbours of equal weight and steps are joined.

    White space at both ends is removed.
    """
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
