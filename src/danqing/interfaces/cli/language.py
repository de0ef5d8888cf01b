"""The language of a command's output, chosen by --lang, DANQING_LANG, `danqing config`, or the locale."""

from __future__ import annotations

import locale
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_LANGUAGE: ContextVar[str] = ContextVar("language", default="en")


def say(text: str) -> str:
    """Translate a message to the language of the running command."""
    language = _LANGUAGE.get()
    if language == "en":
        return text
    from danqing.core.catalogue import catalogue

    return catalogue(language).translate(text)


def localize(command: Any) -> Any:
    """Translate a command's help; each paragraph becomes one line, which the terminal wraps.

    Text that is not prose, such as examples, stays.
    """
    command.help = "\n\n".join(map(_paragraph, (command.help or "").split("\n\n")))
    for parameter in command.params:
        parameter.help = say(getattr(parameter, "help", None) or "")
        if isinstance(getattr(parameter, "show_default", None), str):
            parameter.show_default = say(parameter.show_default)
    for part in getattr(command, "commands", {}).values():
        localize(part)
    return command


def _paragraph(text: str) -> str:
    words = " ".join(text.split())
    plain = words.replace("\\[", "[")  # brackets are escaped, because rich would take them for markup
    translation = say(plain)
    return words if translation == plain else translation.replace("danqing[", "danqing\\[")


@contextmanager
def use_language(language: str) -> Iterator[None]:
    """A context in which commands use a language."""
    token = _LANGUAGE.set(language)
    try:
        yield
    finally:
        _LANGUAGE.reset(token)


def language_of(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """The language that a command line asks for, else that of the system; "en" if it is not supported."""
    wish = _option(argv) or environment.get("DANQING_LANG") or _setting() or _of_system(environment)
    return "zh" if wish.lower().startswith(("zh", "chinese")) else "en"


def _option(argv: Sequence[str]) -> str:
    for word, after in zip(argv, [*argv[1:], ""], strict=False):
        if word == "--":
            break
        if word == "--lang" or word.startswith("--lang="):
            return word.partition("=")[2] or after
    return ""


def _setting() -> str:
    from danqing.core.errors import BadBrief
    from danqing.interfaces.cli.config import read_config

    try:
        return read_config().get("language", "")
    except BadBrief:  # the error is reported where the settings are used
        return ""


def _of_system(environment: Mapping[str, str]) -> str:
    names = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    if sys.platform == "win32":
        return locale.getlocale()[0] or ""
    return next(filter(None, names), "")
