"""Translations of messages. The key is the English message, with {} in the place of each value.

All code writes its messages in English. An interface in another language translates a message when it shows
it. `locale/zh.toml` has the Chinese translation of every message.
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
        # several templates may match a message; the one with most fixed text is the most likely source
        self._templates = sorted(templates, key=lambda template: -len(template.replace("{}", "")))

    def translate(self, text: str, depth: int = DEPTH_MAX) -> str:
        """A message in the other language; unchanged where the catalogue does not have it."""
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
    """A template with its values: {} takes them in order; {0} and {1} are for another order of words."""
    numbers = iter(range(len(parts)))
    return re.sub(r"\{(\d*)\}", lambda place: parts[int(place[1] or next(numbers))], template)


def _could_match(template: str, text: str) -> bool:
    """Whether the text contains all fixed text of the template; a check cheaper than the regex."""
    return all(part in text for part in template.split("{}"))


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(map(re.escape, template.split("{}"))), re.DOTALL)


@cache
def catalogue(language: str) -> Catalogue:
    """The translations into a language; empty for English and for a language without a catalogue."""
    file = resources.files("danqing") / "locale" / f"{language}.toml"
    return Catalogue(tomllib.loads(file.read_text("utf-8")) if file.is_file() else {})


def languages() -> list[str]:
    """English, and the languages that have a catalogue."""
    folder = resources.files("danqing") / "locale"
    return ["en", *sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if "." in file.name)]
