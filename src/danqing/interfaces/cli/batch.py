"""The requests of one command: one for each picture, or one for each line of --from-file. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from danqing.apps import App, pictures_in
from danqing.core.errors import BadBrief, shorten, unknown
from danqing.core.image_ref import ImageRef
from danqing.interfaces.cli.arguments import Arguments, check_complete, read_arguments
from danqing.interfaces.cli.options import WORDS, argument_names
from danqing.interfaces.cli.standard_input import DASH, StandardInput


@dataclass(frozen=True)
class CommandRequest:
    """The values of one request to an app.

    values: field -> value.
    place: the line of the file that it comes from, for messages; empty for a command line.
    out: the output path in that line; None if it has none.
    """

    values: dict[str, Any]
    place: str = ""
    out: str | None = None

    def error(self, error: Exception) -> str:
        """The message of an error, with the request's place."""
        return f"{self.place}: {error}" if self.place else str(error)


def read_requests(
    app: App[Any, Any], options: Mapping[str, Any], from_file: str | None, standard_input: StandardInput
) -> list[CommandRequest]:
    """The requests of a command, each with all required fields.

    options: field -> value, as read by typer; positional fields have their words in order.

    Raises:
        BadBrief: an argument is missing or in the wrong place, or the file cannot be read.
    """
    positional = argument_names(app.inputs)
    words = [word for name in positional for word in _as_list(options.get(name))]
    arguments = read_arguments(app, words)
    options_set = {name: value for name, value in options.items() if value not in (None, [], False)}
    flags = {name: value for name, value in options_set.items() if name not in positional}
    values = {**flags, **_with_input(arguments.values, standard_input)}
    records = [CommandRequest({})] if from_file is None else list(_records(app, from_file, standard_input))
    for name in WORDS & arguments.values.keys() if from_file is not None else ():
        text = shorten(arguments.values[name])
        raise BadBrief(f"{text!r} and --from-file both say what to paint: leave one out")
    pictures: list[dict[str, Any]] = [{arguments.image: name} for name in _files(arguments)] or [{}]
    requests = [
        CommandRequest({**values, **picture, **record.values}, record.place, record.out)
        for record, picture in product(records, pictures)
    ]
    for request in requests:
        try:
            check_complete(app, request.values)
        except BadBrief as error:
            raise BadBrief(request.error(error)) from None
    return requests


def _files(arguments: Arguments) -> list[str]:
    """The input pictures; a folder is replaced by the pictures in it."""
    files: list[str] = []
    for name in arguments.pictures:
        folder = name != DASH and Path(name).is_dir()
        files += [ref.name for ref in pictures_in([ImageRef(name)])] if folder else [name]
    return files


def _with_input(values: Mapping[str, Any], standard_input: StandardInput) -> dict[str, Any]:
    """The values; a text that is - is read from standard input."""
    return {
        name: standard_input.text().strip() if name in WORDS and value == DASH else value
        for name, value in values.items()
    }


def _records(app: App[Any, Any], file: str, standard_input: StandardInput) -> Iterator[CommandRequest]:
    """The requests of a file: one prompt per line, or in a .jsonl one JSON object per line.

    Empty lines are skipped and, in a text file, lines that begin with #.
    """
    name = "standard input" if file == DASH else file
    text = standard_input.text() if file == DASH else _text_of(file)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    as_json = file.lower().endswith((".jsonl", ".ndjson"))
    some = False
    for number, line in lines:
        if not line or (not as_json and line.startswith("#")):
            continue
        some = True
        place = f"{name} line {number}"
        if as_json or (file == DASH and line.startswith('{"')):
            yield _of_json(app, line, place)
        elif "prompt" in app.inputs.model_fields:
            yield CommandRequest({"prompt": line}, place)
        else:
            raise BadBrief(f"{place}: danqing {app.name} takes no words; give a .jsonl with its fields")
    if not some:
        raise BadBrief(f"{name} holds no prompts: write one a line")


def _text_of(file: str) -> str:
    try:
        return Path(file).read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise BadBrief(f"--from-file {shorten(file)!r} is not text (UTF-8): convert it first") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadBrief(f"--from-file {shorten(file)!r} cannot be read: {reason}") from None


def _of_json(app: App[Any, Any], line: str, place: str) -> CommandRequest:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise BadBrief(f"{place}: {shorten(line)!r} is not a JSON object")
    fields = {str(key).replace("-", "_"): value for key, value in record.items()}
    out = fields.pop("out", None)
    if out is not None and not isinstance(out, str):
        raise BadBrief(f"{place}: out {out!r} is not a place: give a file or a folder/")
    for name in fields:
        if name not in app.inputs.model_fields:
            raise BadBrief(f"{place}: {unknown('field', name, [*app.inputs.model_fields, 'out'])}")
    return CommandRequest(fields, place, out)


def _as_list(value: object) -> Sequence[str]:
    if isinstance(value, list):
        return value
    return [] if value is None else [str(value)]


def check_out(out: str | None, requests: Sequence[CommandRequest]) -> None:
    """Raises BadBrief: there are several requests, and --out names one file for all of them."""
    if out is None or len(requests) < 2:
        return
    file = out == DASH or (not out.endswith(("/", "\\")) and Path(out).suffix and not Path(out).is_dir())
    if file:
        raise BadBrief(f"--out {out} holds one picture: give a folder/ for {len(requests)} requests")
