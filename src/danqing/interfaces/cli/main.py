"""`danqing`: the table of commands, and how errors end.

A new command is one line in COMMANDS: its name, where its function (or its own typer app, for a command with
sub-commands) lives, and its line in `danqing --help`. Its module is imported only when the command is called,
so help answers at once. An error that the user can mend is one line on stderr: exit code 2 when the request
is wrong, 1 when the world is (a file, weights), 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import danqing
from danqing.core.device import ENVIRONMENT
from danqing.core.errors import BadBrief, DanqingError


class Entry(NamedTuple):
    """Where a command lives, "module:attribute", and what it does in a line."""

    place: str
    help: str


APPS = {  # each made from the form of its app
    "redraw": "Paint a picture anew from another one and words.",
    "inpaint": "Repaint a part of a picture, or mend it.",
    "outpaint": "Paint on beyond a picture's edges.",
    "zoom": "Zoom out: paint on beyond all four edges.",
    "pan": "Paint on beyond one edge.",
    "vary": "Paint variations of a picture, or of a cell of a grid.",
    "remix": "Paint variations of a picture with other words.",
    "blend": "Mix two to five pictures into new ones.",
    "stylize": "Paint a picture again in a style.",
    "upscale": "Enlarge a picture, or take a cell of a grid.",
    "edit": "Edit a picture by saying what it shall show.",
    "describe": "Say four prompts that could have painted a picture.",
}

COMMANDS = {
    "paint": Entry("danqing.interfaces.cli.paint:paint", "Paint pictures from words."),
    "imagine": Entry("danqing.interfaces.cli.imagine:imagine", "Paint a grid of four to choose from."),
    "reroll": Entry("danqing.interfaces.cli.imagine:reroll", "Paint the same words again, with new seeds."),
    **{name: Entry(f"danqing.interfaces.cli.apps:{name}", help) for name, help in APPS.items()},
    "animate": Entry("danqing.interfaces.cli.animate:animate", "Paint a film, frame by frame."),
    "learn": Entry("danqing.interfaces.cli.learn:learn", "Teach a model a subject from a few pictures."),
    "classify": Entry("danqing.interfaces.cli.classify:classify", "Name what pictures show."),
    "search": Entry(
        "danqing.interfaces.cli.search:search", "Find pictures in a folder by words, or by a picture."
    ),
    "score": Entry("danqing.interfaces.cli.search:score", "Tell how well words fit pictures."),
    "lineage": Entry("danqing.interfaces.cli.lineage:lineage", "Paint the same words with every family."),
    "models": Entry("danqing.interfaces.cli.models:models", "List the models and what each can paint."),
    "data": Entry("danqing.interfaces.cli.data:app", "Build the sticker data set."),
    "train": Entry("danqing.interfaces.cli.train:train", "Train a family of painters on your pictures."),
    "evaluate": Entry("danqing.interfaces.cli.evaluate:evaluate", "Measure a model, honestly."),
    "show": Entry("danqing.interfaces.cli.show:show", "Show how a picture was made, and how to repaint it."),
}

HELP = """丹青 danqing paints pictures from words, on this computer.

danqing paint "a red apple, 3d style"\n
danqing paint "一只兔子，剪纸风格" --count 4 --background transparent\n
danqing show paintings/a-red-apple-3d-style-7.png

`danqing COMMAND --help` tells what each command takes.
"""


class _Lazy(TyperGroup):
    """Lists commands from the table; imports one when it is called."""

    def resolve_command(
        self, ctx: Any, args: list[str]
    ) -> tuple[str | None, TyperCommand | TyperGroup, list[str]]:
        name, _placeholder, rest = super().resolve_command(ctx, args)
        assert name is not None, "super() has refused unknown names"
        return name, _load(name), rest


def _load(name: str) -> TyperCommand | TyperGroup:
    module, attribute = COMMANDS[name].place.split(":")
    made = getattr(import_module(module), attribute)
    if not isinstance(made, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        app.command(name)(made)
        made = app
    command = get_command(made)
    assert isinstance(command, TyperCommand | TyperGroup)
    return command


def _version(asked: bool) -> None:
    if asked:
        print(f"danqing {danqing.__version__}")
        raise typer.Exit


def _app() -> typer.Typer:
    app = typer.Typer(cls=_Lazy, help=HELP, rich_markup_mode="rich", add_completion=False)

    @app.callback()
    def options(
        device: Annotated[
            str, typer.Option(envvar=ENVIRONMENT, help="Where to paint: auto, cpu, cuda, cuda:1 or mps.")
        ] = "auto",
        version: Annotated[  # noqa: ARG001
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version.")
        ] = False,
    ) -> None:
        os.environ[ENVIRONMENT] = device  # read where a model is opened, however deep

    for name, entry in COMMANDS.items():
        app.command(name, help=entry.help)(lambda: None)
    return app


def run(argv: Sequence[str]) -> int:
    """Do what `argv` says and return the exit code; errors are told on stderr in one line."""
    try:
        outcome = get_command(_app()).main(
            args=list(argv) or ["--help"], prog_name="danqing", standalone_mode=False
        )
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        return _complain(error.format_message() + hint, 2)
    except BadBrief as error:
        return _complain(str(error), 2)
    except DanqingError as error:
        return _complain(str(error), 1)
    except MemoryError:
        return _complain("not enough memory: ask for fewer or smaller pictures", 1)
    except (KeyboardInterrupt, typer.Abort):
        outcome = 130
    if outcome == 130:
        return _complain("cancelled", 130)
    return outcome if isinstance(outcome, int) else 0


def main() -> None:
    """The `danqing` script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a character shows its code instead
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _warn  # where it was given matters to nobody here
    sys.exit(run(sys.argv[1:]))


def _warn(message: Warning | str, *_where: object, **_more: object) -> None:
    """A warning in one line, without the line of code that gave it."""
    print(f"danqing: {' '.join(str(message).split())}", file=sys.stderr)


def _complain(text: str, code: int) -> int:
    print(f"danqing: {' '.join(text.split())}", file=sys.stderr)
    return code
