"""From the words behind a command to the fields that they fill; a word that fills none is refused by name."""

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
    """What the positional words of a command mean.

    values: field -> value, for all fields but the picture that the command works on.
    pictures: one for each request; empty where the command does not start from a picture.
    image: the field that they fill, one after another.
    """

    values: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    image: str = ""


def read_arguments(app: App[Any, Any], words: Sequence[str]) -> Arguments:
    """What the positional words of an app's command mean.

    Pictures come first: each that stands in front of the words is worked on by itself.

    Raises:
        BadBrief: a word that nothing can be made of; says what was probably meant.
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
    """Raises BadBrief: a positional field that must be given is missing."""
    for name in app.inputs.positional:
        if name == "prompt" and values.get("settings_of"):
            continue  # it comes with them
        if app.inputs.model_fields[name].is_required() and name not in values:
            more = "..." if name in WORDS or is_list(app.inputs, name) else ""
            raise BadBrief(f"Missing argument '{name.upper()}{more}' (see danqing {app.name} --help)")


def is_picture(word: str) -> bool:
    """Whether a word names a picture: by its ending, or as standard input."""
    if word == DASH:
        return True
    by_ending = PurePath(word).suffix.lower() in SUFFIXES
    return by_ending and (not any(map(str.isspace, word)) or _exists(word))


def _pictures_in_front(app: App[Any, Any], words: Sequence[str]) -> list[str]:
    """The words in the order of the fields; of some, the pictures stand behind all else."""
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
    """How many words in front are pictures; the first is one in any case, and a folder ends with a slash."""
    number = min(1, len(words))
    while number < len(words) and (is_picture(words[number]) or _is_folder(words[number])):
        number += 1
    return number


def _is_folder(word: str) -> bool:
    return word.endswith(("/", "\\")) and _exists(word)


def _split_list(inputs: type[AppInputs], words: list[str]) -> tuple[list[str], list[str]]:
    """The pictures of a list, and the words behind it where the app needs some."""
    if not words_behind_list(inputs):
        return words, []
    number = min(1, len(words))
    while number < len(words) and (is_picture(words[number]) or _exists(words[number])):
        number += 1
    if number == len(words) > 1:
        raise BadBrief(f"{words[-1]!r} is a file or a folder: put the words behind the pictures")
    return words[:number], words[number:]


def _refuse_pictures(app: App[Any, Any], words: Sequence[str]) -> None:
    """Refuse a picture among the words, be it there or not; one in front of all is an image prompt."""
    in_front = 1 if "image" in app.inputs.model_fields and "image" not in app.inputs.positional else 0
    for number, word in enumerate(words):
        if number >= in_front and word != DASH and is_picture(word):
            raise BadBrief(_stray(app, word))


def _refuse_words(app: App[Any, Any], name: str, word: str) -> None:
    """Refuse words where a cell of a grid is expected."""
    if name == "cell" and not word.lstrip("+-").isdecimal():
        raise BadBrief(_stray(app, word))


def _stray(app: App[Any, Any], word: str) -> str:
    """What is wrong with a word, and what was probably meant."""
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
    except (OSError, ValueError):  # too long for a name
        return False
