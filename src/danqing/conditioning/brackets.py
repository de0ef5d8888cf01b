"""The brackets of a prompt: pairs them, and reads what each pair does to the words inside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from danqing.conditioning.prompt_schedule import ALWAYS, StepRange, in_turn, steps_from, steps_until

STRONGER = 1.1  # the weight of (words); that of [words] is its inverse

NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*")
_PARTNER = {")": "(", "]": "["}


class Role(NamedTuple):
    """The effect of a token that is not a word.

    pops: how many brackets it closes.
    enters: weight and steps of the bracket that it then opens; None opens none.
    """

    pops: int = 0
    enters: tuple[float, StepRange] | None = None

    @property
    def depth(self) -> int:
        """The change of the nesting depth after this token."""
        return (self.enters is not None) - self.pops


SKIPPED, _CLOSES = Role(), Role(pops=1)

Roles = dict[int, Role]


def _opens(weight: float = 1.0, when: StepRange = ALWAYS) -> Role:
    return Role(enters=(weight, when))


_STRONGER, _WEAKER = _opens(STRONGER), _opens(1 / STRONGER)


def _next_part(when: StepRange) -> Role:
    return Role(pops=1, enters=(1.0, when))


def roles_of(tokens: Sequence[str]) -> Roles:
    """Position of a token -> its role, for each paired bracket and each separator inside a pair."""
    roles: Roles = {}
    waiting: list[int] = []  # open brackets, and possible separators inside them
    opened = Counter[str]()
    for end, token in enumerate(tokens):
        if token in "([:|":
            waiting.append(end)
            opened[token] += 1
        elif token in _PARTNER and opened[_PARTNER[token]]:
            marks = []
            while tokens[start := waiting.pop()] != _PARTNER[token]:
                opened[tokens[start]] -= 1
                if tokens[start] in ":|":
                    marks.append(start)
            opened[_PARTNER[token]] -= 1
            roles.update(_READ[token](tokens, start, end, marks[::-1]))
    return roles


def _round(tokens: Sequence[str], start: int, end: int, marks: list[int]) -> Roles:
    """The roles of (words) or (words:1.2)."""
    amount = _amount(tokens, end, marks)
    if amount is None:
        return {start: _STRONGER, end: _CLOSES}
    return {start: _opens(float(amount)), end - 2: SKIPPED, end - 1: SKIPPED, end: _CLOSES}


def _square(tokens: Sequence[str], start: int, end: int, marks: list[int]) -> Roles:
    """The roles of [words], [before:after:0.5], [after:0.5] or [one|other]."""
    amount = _amount(tokens, end, marks)
    colons = [mark for mark in marks if tokens[mark] == ":"]
    bars = [mark for mark in marks if tokens[mark] == "|"]
    if amount is not None and len(colons) <= 2:
        silent: Roles = {end - 2: SKIPPED, end - 1: SKIPPED, end: _CLOSES}
        if len(colons) == 1:
            return {start: _opens(when=steps_from(amount)), **silent}
        return {start: _opens(when=steps_until(amount)), colons[0]: _next_part(steps_from(amount)), **silent}
    if bars:
        turns = [in_turn(k, len(bars) + 1) for k in range(len(bars) + 1)]
        others = {bar: _next_part(turn) for bar, turn in zip(bars, turns[1:], strict=True)}
        return {start: _opens(when=turns[0]), **others, end: _CLOSES}
    return {start: _WEAKER, end: _CLOSES}


_READ = {")": _round, "]": _square}


def _amount(tokens: Sequence[str], end: int, marks: list[int]) -> str | None:
    """The number between the last colon of a bracket and its end; None where there is none."""
    if not marks or marks[-1] != end - 2 or tokens[end - 2] != ":":
        return None
    match = NUMBER.fullmatch(tokens[end - 1])
    return match[1] if match else None
