"""References to what was learned: <name>, <name:0.8> and A1111's <lora:name:0.8>; ＜ ： ＞ are as good."""

from __future__ import annotations

import re

from danqing.core.half_width import sub_marks

_REFERENCE = re.compile(
    r"\\."  # what stands behind a backslash is ordinary
    r"|<(?P<lora>lora:\s*)?(?P<name>(?(lora)[^<>:]+|[^\W\d][\w./-]*))"
    r"(?::\s*(?P<weight>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*)?>",
    re.DOTALL,
)


def take(text: str) -> tuple[str, dict[str, float]]:
    """The prompt without references, and the references: name -> weight, 1 where none is written.

    A learned word is spelled <name> and stays in the prompt; <lora:name:0.8> is no word and is taken out. Of
    two references to the same name the last one counts.
    """
    weights: dict[str, float] = {}

    def replace(match: re.Match[str], typed: str) -> str:
        if match["name"] is None:
            return typed
        weights[match["name"].strip()] = float(match["weight"] or 1)
        return "" if match["lora"] else f"<{match['name']}>"

    return sub_marks(_REFERENCE, replace, text), weights
