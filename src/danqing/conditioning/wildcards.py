"""Wildcards: {red|blue} is one of its words, chosen by the picture's own seed.

They may stand inside each other, and a choice may be empty: {big |}fox. Braces without a bar of their own or
without a partner are ordinary characters, and so is whatever stands behind a backslash. Full-width marks do
as their half-width twins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random

from danqing.core.half_width import split_marks

_MARK = re.compile(r"(\\.|[{}|])", re.DOTALL)


def choose(text: str, seed: int) -> str:
    """`text` with every wildcard replaced by one of its choices: the same for the same text and seed.

    Every choice is as likely as the others beside it.
    """
    chance = Random(f"wildcards {seed}")  # of a text, because small numbers in a row give alike first draws
    open_braces = [_Braces("")]  # the first one is the text itself
    for mark, typed in zip(*split_marks(_MARK, text), strict=True):
        if mark == "{":
            open_braces.append(_Braces(typed))
        elif mark == "|" and len(open_braces) > 1:
            open_braces[-1].bars.append(typed)
            open_braces[-1].choices.append([])
        elif mark == "}" and len(open_braces) > 1:
            inner = open_braces.pop()
            open_braces[-1].choices[-1].append(inner.choose(chance, typed))
        else:
            open_braces[-1].choices[-1].append(typed)
    return "".join(braces.text for braces in open_braces)


@dataclass
class _Braces:
    """Open braces: the mark that opens them, the choices as pieces of text, and the bars between those."""

    mark: str
    choices: list[list[str]] = field(default_factory=lambda: [[]])
    bars: list[str] = field(default_factory=list)

    def choose(self, chance: Random, end: str) -> str:
        """One of the choices; all of the text where there is no other choice."""
        if not self.bars:
            return self.text + end
        return "".join(self.choices[int(chance.random() * len(self.choices))])

    @property
    def text(self) -> str:
        """What was typed, without an end."""
        first, *others = ("".join(choice) for choice in self.choices)
        return "".join([self.mark, first, *map("".join, zip(self.bars, others, strict=True))])
