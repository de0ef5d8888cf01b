"""The steps at which a piece of a prompt is active. Steps are counted from 0."""

from __future__ import annotations

from math import floor, gcd
from typing import NamedTuple

STEPS_MAX = 1000  # the most of a brief


class StepRange(NamedTuple):
    """The steps at which a text is active: an interval, in which texts may alternate.

    since_share: begin of the interval as a fraction of all steps, in [0, 1].
    since_step: begin in steps, in [0, 1000]; the later of both begins counts.
    until_share: end of the interval as a fraction of all steps, in [0, 1].
    until_step: end in steps, in [0, 1000]; the earlier of both ends counts.
    turn: the text is active where step % turns == turn; in [0, turns).
    turns: how many texts alternate; 1 for none.
    """

    since_share: float = 0.0
    since_step: int = 0
    until_share: float = 1.0
    until_step: int = STEPS_MAX
    turn: int = 0
    turns: int = 1

    @property
    def never(self) -> bool:
        """Whether the range is empty for any number of steps."""
        return self.since_share >= self.until_share or self.since_step >= self.until_step

    def holds(self, step: int, of: int) -> bool:
        """Whether step `step` of `of` steps is in the range."""
        first = max(_steps(self.since_share, of), self.since_step)
        last = min(_steps(self.until_share, of), self.until_step)
        return first <= step < last and step % self.turns == self.turn

    def both(self, other: StepRange) -> StepRange:
        """The steps that are in this range and in the other."""
        if self is ALWAYS or other is ALWAYS:  # a fast path: most texts, also deeply nested ones
            return other if self is ALWAYS else self
        return _taking_turns(
            StepRange(
                max(self.since_share, other.since_share),
                max(self.since_step, other.since_step),
                min(self.until_share, other.until_share),
                min(self.until_step, other.until_step),
            ),
            self,
            other,
        )

    def around(self, body: str) -> str:
        """Prompt syntax that makes `body` active at these steps."""
        if self.turns > 1:
            body = f"[{'|' * self.turn}{body}{'|' * (self.turns - 1 - self.turn)}]"
        edges = {
            ":": (self.since_share, self.since_step),
            "::": (self.until_share % 1, self.until_step % STEPS_MAX),
        }
        for sign, (share, step) in edges.items():
            body = f"[{body}{sign}{decimal(share)}]" if share else body
            body = f"[{body}{sign}{step}]" if step else body
        return body


ALWAYS = StepRange()


def steps_from(amount: str) -> StepRange:
    """The range from `amount` on: a whole number of 1 or more counts steps, any other is a fraction."""
    share, step = _amount(amount)
    return StepRange(since_share=share) if step is None else StepRange(since_step=step)


def steps_until(amount: str) -> StepRange:
    """The range until `amount`; see `steps_from`."""
    share, step = _amount(amount)
    return StepRange(until_share=share) if step is None else StepRange(until_step=step)


def in_turn(turn: int, turns: int) -> StepRange:
    """The steps where step % turns == turn."""
    return _taking_turns(ALWAYS, StepRange(turn=turn, turns=turns), ALWAYS)


def decimal(number: float) -> str:
    """A number with at most six places, without an exponent."""
    text = f"{number:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _amount(text: str) -> tuple[float, int | None]:
    number = float(text)  # not int(), which refuses very long texts
    if number >= 1 and "." not in text:
        return 0.0, int(min(number, STEPS_MAX))
    return round(min(max(number, 0.0), 1.0), 6), None


def _steps(share: float, of: int) -> int:
    return floor(share * of + 1e-9)  # 0.29 * 100 is 28.999... in floats, and must give 29


def _taking_turns(when: StepRange, one: StepRange, other: StepRange) -> StepRange:
    """`when` with the turns that both ranges have in common, by the Chinese remainder theorem."""
    common = gcd(one.turns, other.turns)
    apart, remainder = divmod(other.turn - one.turn, common)
    if remainder:
        return when._replace(until_step=0)
    rest = other.turns // common
    turn = one.turn + one.turns * (apart * pow(one.turns // common, -1, rest) % rest)
    if one.turns * rest <= STEPS_MAX:
        return when._replace(turn=turn, turns=one.turns * rest)
    # no brief has so many steps that this turn comes twice
    return when._replace(since_step=max(when.since_step, turn), until_step=min(when.until_step, turn + 1))
