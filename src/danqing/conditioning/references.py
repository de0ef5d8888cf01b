"""References to adapters in a prompt: <name>, <name:0.8>, A1111's <lora:name:0.8>; also with ＜ ： ＞."""

from __future__ import annotations

import re

from danqing.core.half_width import sub_marks

_REFERENCE = re.compile(
    r"\\."  # a character after a backslash is ordinary
    r"|<(?P<lora>lora:\s*)?(?P<name>(?(lora)[^<>:]+|[^\W\d][\w./-]*))"
    r"(?::\s*(?P<weight>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*)?>",
    re.DOTALL,
)


def take(text: str) -> tuple[str, dict[str, float]]:
    """The prompt without references, and the references: name -> weight, 1 where no weight is written.

    <name> stays in the prompt, because it is also the trained token of a textual inversion. <lora:name:0.8>
    is removed. Of two references to the same name, the last one counts.
    """
    weights: dict[str, float] = {}

    def replace(match: re.Match[str], typed: str) -> str:
        if match["name"] is None:
            return typed
        weights[match["name"].strip()] = float(match["weight"] or 1)
        return "" if match["lora"] else f"<{match['name']}>"

    return sub_marks(_REFERENCE, replace, text), weights
