"""The output of commands: results on stdout, one per line; everything else on stderr."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing.core.progress import ProgressCallback, no_progress
from danqing.interfaces.cli.language import say
from danqing.interfaces.cli.options import option
from danqing.interfaces.cli.progress import show_progress

if TYPE_CHECKING:
    from danqing.core.picture import Picture

JSON = option("as_json", "--json", kind=bool, help="One JSON object for each result, a line each.", unset="")
QUIET = option("quiet", "--quiet", "-q", kind=bool, help="Nothing on stderr but errors.", unset="")
SCRIPT_OPTIONS: tuple[Parameter, ...] = (JSON, QUIET)


_DROPPED = "too many words, or unknown to the model; these were not painted: {}"


class Report:
    """The output of one command.

    as_json: whether results are JSON objects instead of paths.
    quiet: whether stderr shows only errors.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._warnings: list[str] = []
        self._dropped: set[str] = set()
        self._latest: Path | None = None

    @property
    def latest(self) -> list[Path]:
        """The file that was finished last, which is the grid if there is one; empty if there is none."""
        return [] if self._latest is None else [self._latest]

    def start(self, notes: Iterable[str]) -> None:
        """Begin a request, and print its notes for the user."""
        self._latest = None
        self._warnings = list(notes)
        self._dropped = set()
        for line in self._warnings:
            self.note(line)

    def add(self, notes: Iterable[str]) -> None:
        """Print notes that came up since `start`, during the work."""
        new = [line for line in notes if line not in self._warnings]
        self._warnings += new
        for line in new:
            self.note(line)

    def note(self, text: str) -> None:
        """Print a line about the work, in addition to its results."""
        if not self.quiet:
            print(say(text), file=sys.stderr)

    def failure(self, text: str) -> None:
        """Print a line about a request that failed, while others continue."""
        print(f"danqing: {say(text)}", file=sys.stderr)

    def result(self, path: Path, facts: Mapping[str, Any], warnings: Iterable[str] = ()) -> None:
        """Print a finished file: its path, or with --json all facts about it."""
        self._latest = path
        if self.as_json:
            record = {"path": str(path), **facts, "warnings": [*self._warnings, *warnings]}
            print(json.dumps(record, ensure_ascii=False), flush=True)
        else:
            print(path, flush=True)

    def picture(self, path: Path, picture: Picture, *, grid: bool = False) -> None:
        """Print a saved picture, and warnings of words that it does not show."""
        self.result(path, {**picture_facts(picture), "grid": grid}, self.warn_of_dropped([picture]))
        if grid and not self.as_json and not path.stem.endswith("-grid"):
            self.note(f"{path} is the grid")

    def binary(self, data: bytes, pictures: Iterable[Picture]) -> None:
        """Write the bytes of a picture's file to stdout."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        self.warn_of_dropped(pictures)

    def line(self, source: str, text: str) -> None:
        """Print a line of text about a picture."""
        if self.as_json:
            record = {"path": source, "text": text, "warnings": self._warnings}
            print(json.dumps(record, ensure_ascii=False), flush=True)
        else:
            print(text, flush=True)

    def warn_of_dropped(self, pictures: Iterable[Picture]) -> list[str]:
        """Warnings of words that pictures do not show; each is printed once.

        Those words exceed the text encoder's length, or are not in the model's list of names.
        """
        words = dict.fromkeys(picture.info.dropped for picture in pictures if picture.info.dropped)
        for text in words.keys() - self._dropped:
            self.note(_DROPPED.format(text))
        self._dropped |= words.keys()
        return [_DROPPED.format(text) for text in words]

    @contextmanager
    def counting(self, finished: Sized, of: int, noun: str, go_on: str = "") -> Iterator[None]:
        """A context that prints how much is finished if the work is interrupted or fails, even if quiet.

        finished: a container that grows with each result.
        of: the number of results in total.
        noun: such as "pictures".
        go_on: how to continue.
        """
        try:
            yield
        except BaseException:
            if of > 1 and len(finished) < of:
                more = f"; {go_on}" if go_on and len(finished) else ""
                print(f"{len(finished)} of {of} {noun}{more}", file=sys.stderr)
            raise

    @contextmanager
    def working(self, model: str, doing: str) -> Iterator[ProgressCallback]:
        """Yield a progress callback for work with a model; it shows nothing if quiet."""
        if self.quiet:
            yield no_progress
            return
        with show_progress(model, say(doing)) as progress:
            yield progress


def picture_facts(picture: Picture) -> dict[str, Any]:
    """Facts about a picture for programs: seed, width, height, seconds, model."""
    return {
        "seed": picture.brief.seeds[0],
        "width": picture.image.width,
        "height": picture.image.height,
        "seconds": round(picture.info.seconds, 3),
        "model": picture.brief.model,
    }


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator: the command's parameter `report` becomes the options --json and --quiet."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "report"]

    @functools.wraps(command)
    def with_report(*, as_json: bool, quiet: bool, **options: Any) -> None:
        command(report=Report(as_json=as_json, quiet=quiet), **options)

    with_report.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*(parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own), *SCRIPT_OPTIONS]
    )
    return with_report
