"""Assigns the positional words of a command to fields.

A word that fits no field is refused with a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any

from danqing.apps import App, AppInputs
from danqing.core.errors import BadBrief, shorten
from danqing.core.source_image import SUFFIXES
from danqing.interfaces.cli.options import WORDS, argument_names, flag, is_image, is_list, words_behind_list
from danqing.interfaces.cli.standard_input import DASH


@dataclass(frozen=True)
class Arguments:
    """The meaning of a command's positional words.

    values: field -> value, for all fields except the input picture.
    pictures: input pictures, one for each request; empty if the app takes none.
    image: the field of the input picture.
    """

    values: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    image: str = ""


def read_arguments(app: App[Any, Any], words: Sequence[str]) -> Arguments:
    """Parse the positional words of an app's command.

    Pictures come first; each picture before the other words becomes a request of its own.

    Raises:
        BadBrief: a word fits no field; the message says what was probably meant.
    """
    rest, values = _pictures_in_front(app, words), dict[str, Any]()
    pictures: tuple[str, ...] = ()
    image = ""
    for name in (*argument_names(app.inputs), *words_behind_list(app.inputs)):
        if not rest:
            break
        if is_list(app.inputs, name):
            values[name], rest = _split_list(app.inputs, rest)
        elif name in WORDS:
            _refuse_pictures(app, rest)
            values[name], rest = " ".join(rest), []
        elif is_image(app.inputs, name) and _takes_several(app):
            number = _leading(rest)
            image, pictures, rest = name, tuple(rest[:number]), rest[number:]
        else:
            _refuse_words(app, name, rest[0])
            values[name] = rest.pop(0)
    if rest:
        raise BadBrief(_stray(app, rest[0]))
    return Arguments(values, pictures, image)


def check_complete(app: App[Any, Any], values: Mapping[str, Any]) -> None:
    """Raises BadBrief: a required positional field is missing."""
    for name in app.inputs.positional:
        if name == "prompt" and values.get("settings_of"):
            continue  # the picture is filled in for each request
        if app.inputs.model_fields[name].is_required() and name not in values:
            more = "..." if name in WORDS or is_list(app.inputs, name) else ""
            raise BadBrief(f"Missing argument '{name.upper()}{more}' (see danqing {app.name} --help)")


def is_picture(word: str) -> bool:
    """Whether a word names a picture: it has a picture's ending, or is - for standard input."""
    if word == DASH:
        return True
    by_ending = PurePath(word).suffix.lower() in SUFFIXES
    return by_ending and (not any(map(str.isspace, word)) or _exists(word))


def _pictures_in_front(app: App[Any, Any], words: Sequence[str]) -> list[str]:
    """The words in the order of the fields; in some apps the pictures come after all other words."""
    first = app.inputs.positional[0]
    number = sum(1 for _ in takewhile(lambda word: is_picture(word) and _exists(word), reversed(words)))
    if not is_image(app.inputs, first) or number in (0, len(words)):
        return list(words)
    others = words[:-number]
    if any(is_picture(word) or _exists(word) for word in others):
        return list(words)
    return [*words[-number:], *others]


def _takes_several(app: App[Any, Any]) -> bool:
    return app.output in ("pictures", "lines")


def _leading(words: Sequence[str]) -> int:
    """The number of pictures at the start; the first word always counts, and folders end with a slash."""
    number = min(1, len(words))
    while number < len(words) and (is_picture(words[number]) or _is_folder(words[number])):
        number += 1
    return number


def _is_folder(word: str) -> bool:
    return word.endswith(("/", "\\")) and _exists(word)


def _split_list(inputs: type[AppInputs], words: list[str]) -> tuple[list[str], list[str]]:
    """Split the words into the pictures of a list and the words after it, if the app needs some."""
    if not words_behind_list(inputs):
        return words, []
    number = min(1, len(words))
    while number < len(words) and (is_picture(words[number]) or _exists(words[number])):
        number += 1
    if number == len(words) > 1:
        raise BadBrief(f"{words[-1]!r} is a file or a folder: put the words behind the pictures")
    return words[:number], words[number:]


def _refuse_pictures(app: App[Any, Any], words: Sequence[str]) -> None:
    """Refuse a picture among the words, even a missing one; a picture before all words is an image prompt."""
    in_front = 1 if "image" in app.inputs.model_fields and "image" not in app.inputs.positional else 0
    for number, word in enumerate(words):
        if number >= in_front and word != DASH and is_picture(word):
            raise BadBrief(_stray(app, word))


def _refuse_words(app: App[Any, Any], name: str, word: str) -> None:
    """Refuse words in the place of a grid cell."""
    if name == "cell" and not word.lstrip("+-").isdecimal():
        raise BadBrief(_stray(app, word))


def _stray(app: App[Any, Any], word: str) -> str:
    """The message for a word that fits no field: what is wrong, and what was probably meant."""
    text, inputs = shorten(word), app.inputs
    if is_picture(word):
        fields = [name for name in inputs.model_fields if is_image(inputs, name)]
        options = [f"{flag(name)} {text}" for name in fields if name not in inputs.positional]
        first = "only one picture can stand in front" if "image" in fields else "it is a picture, not words"
        front = "put it before the words" if "image" in inputs.positional else first
        return (
            f"{text!r} is not expected here: {', or '.join([front, *(f'give it as {o}' for o in options)])}"
        )
    if "prompt" in inputs.model_fields and "prompt" not in argument_names(inputs):
        return f"{text!r} is not expected here: words go in --prompt {word!r}"
    takes = " and ".join(name for name in inputs.positional)
    return f"{text!r} is not expected here: danqing {app.name} takes {takes} only"


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # the word is too long for a path
        return False
