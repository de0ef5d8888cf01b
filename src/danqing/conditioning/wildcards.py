"""Wildcards: {red|blue} becomes one of its choices, drawn by the seed of the picture.

They may be nested, and a choice may be empty: {big |}fox. Braces without a bar of their own and unpaired
braces are ordinary characters, and so is a character after a backslash. Full-width syntax means the same as
half-width syntax.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random

from danqing.core.half_width import split_marks

_MARK = re.compile(r"(\\.|[{}|])", re.DOTALL)


def choose(text: str, seed: int) -> str:
    """`text` with every wildcard replaced by one of its choices; text and seed alone decide which.

    All choices of a wildcard are equally likely.
    """
    chance = Random(f"wildcards {seed}")  # a text, because consecutive numbers give similar first draws
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
    """An open brace: its opening character, the choices as pieces of text, and the bars between them."""

    mark: str
    choices: list[list[str]] = field(default_factory=lambda: [[]])
    bars: list[str] = field(default_factory=list)

    def choose(self, chance: Random, end: str) -> str:
        """One of the choices; the whole text with its braces where there is only one choice."""
        if not self.bars:
            return self.text + end
        return "".join(self.choices[int(chance.random() * len(self.choices))])

    @property
    def text(self) -> str:
        """The text since the opening brace, without the closing one."""
        first, *others = ("".join(choice) for choice in self.choices)
        return "".join([self.mark, first, *map("".join, zip(self.bars, others, strict=True))])
