"""Wildcards: {red|blue} is one of its words, chosen by the picture's own seed.

They may stand inside each other, and a choice may be empty: {big |}fox. Braces without a bar of their own or
without a partner are ordinary characters, and so is whatever stands behind a backslash.
"""

from __future__ import annotations

import re
from random import Random

_MARK = re.compile(r"(\\.|[{}|])", re.DOTALL)


def choose(text: str, seed: int) -> str:
    """`text` with every wildcard replaced by one of its choices: the same for the same text and seed.

    Every choice is as likely as the others beside it.
    """
    chance = Random(f"wildcards {seed}")  # of a text, because small numbers in a row give alike first draws
    open_braces: list[list[list[str]]] = [[[]]]  # the choices of each open brace, as pieces of text
    for token in _MARK.split(text):
        if token == "{":
            open_braces.append([[]])
        elif token == "|" and len(open_braces) > 1:
            open_braces[-1].append([])
        elif token == "}" and len(open_braces) > 1:
            choices = open_braces.pop()
            open_braces[-1][-1].append(_chosen(choices, chance))
        else:
            open_braces[-1][-1].append(token)
    return "{".join("|".join("".join(choice) for choice in choices) for choices in open_braces)


def _chosen(choices: list[list[str]], chance: Random) -> str:
    if len(choices) == 1:
        return "{" + "".join(choices[0]) + "}"
    return "".join(choices[int(chance.random() * len(choices))])
