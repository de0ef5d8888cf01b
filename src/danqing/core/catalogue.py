"""Messages in other languages, keyed by the English message with {} for what it names.

Messages are made in English, wherever they arise; a face that speaks another language translates them when it
shows them. `locale/zh.toml` holds the Chinese ones, complete like English.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources

DEPTH_MAX = 3  # messages within messages, such as "a.txt line 3: no picture at 'a.png': check the name"


class Catalogue:
    """Translations: templates of English messages -> those of another language."""

    def __init__(self, messages: dict[str, str]) -> None:
        self.messages = messages
        templates = [template for template in messages if "{}" in template]
        # the more of a message is said by the template, the surer it is meant
        self._templates = sorted(templates, key=lambda template: -len(template.replace("{}", "")))

    def translate(self, text: str, depth: int = DEPTH_MAX) -> str:
        """A message in the other language; as it is where it is not in the catalogue."""
        if text in self.messages:
            return self.messages[text]
        if depth == 0:
            return text
        for template in self._templates:
            match = _pattern(template).fullmatch(text) if _could_match(template, text) else None
            if match is not None:
                parts = [self.translate(part, depth - 1) for part in match.groups()]
                return fill(self.messages[template], parts)
        return text


def fill(template: str, parts: list[str]) -> str:
    """A template with its parts: {} in order, or {0}, {1} where the other language has another order."""
    numbers = iter(range(len(parts)))
    return re.sub(r"\{(\d*)\}", lambda place: parts[int(place[1] or next(numbers))], template)


def _could_match(template: str, text: str) -> bool:
    """Whether all that a template says stands in the text: cheaper than its pattern."""
    return all(part in text for part in template.split("{}"))


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(map(re.escape, template.split("{}"))), re.DOTALL)


@cache
def catalogue(language: str) -> Catalogue:
    """The translations into a language; none for English, or for a language without a catalogue."""
    file = resources.files("danqing") / "locale" / f"{language}.toml"
    return Catalogue(tomllib.loads(file.read_text("utf-8")) if file.is_file() else {})


def languages() -> list[str]:
    """English, and the languages that there is a catalogue of."""
    folder = resources.files("danqing") / "locale"
    return ["en", *sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if "." in file.name)]
