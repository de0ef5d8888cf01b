"""`danqing`: the table of commands, and how errors end.

The apps are commands by themselves. Another command is one line in OTHER_COMMANDS: its name, where its
function (or its own typer app, for a command with sub-commands) lives, and its line in `danqing --help`. Its
module is imported only when the command is called, so help answers at once. An error that the user can mend
is one line on stderr: exit code 2 when the request is wrong, 1 when the world is (a file, weights), 130 after
Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import danqing
from danqing.apps import app_summaries
from danqing.core.errors import BadBrief, DanqingError, shorten
from danqing.core.threads import set_thread_policy
from danqing.interfaces.cli.language import language_of, localize, say, use_language
from danqing.interfaces.cli.patient_stream import patient_stream
from danqing.interfaces.cli.shell import quote
from danqing.interfaces.cli.stop_signals import StopSignals


class Entry(NamedTuple):
    """A command.

    place: "module:attribute" of its function or typer app.
    help: one line for `danqing --help`.
    """

    place: str
    help: str


OTHER_COMMANDS = {  # commands that are not apps
    "models": Entry("danqing.interfaces.cli.models:app", "List models, add your own, fetch others."),
    "data": Entry("danqing.interfaces.cli.data:app", "Build the sticker data set."),
    "train": Entry("danqing.interfaces.cli.train:train", "Train a family of painters on your pictures."),
    "evaluate": Entry("danqing.interfaces.cli.evaluate:evaluate", "Measure a model, honestly."),
    "config": Entry("danqing.interfaces.cli.config:app", "Choose what commands use when they say nothing."),
    "studio": Entry("danqing.interfaces.cli.studio:studio", "Paint in the browser: page, queue and gallery."),
    "mcp": Entry("danqing.interfaces.cli.mcp:mcp", "Give an assistant tools to paint, by a running server."),
    "serve": Entry("danqing.interfaces.cli.studio:serve", "Serve the HTTP API alone, for other programs."),
    "gallery": Entry(
        "danqing.interfaces.cli.gallery:app", "Import, export and check the pictures of a studio."
    ),
    "users": Entry("danqing.interfaces.cli.users:app", "Give people accounts in a studio."),
    "show": Entry("danqing.interfaces.cli.show:show", "Show how a picture was made, and how to repaint it."),
}

HELP = """丹青 danqing paints pictures from words, on this computer.

danqing paint "a red apple, 3d style"\n
danqing paint "一只兔子，剪纸风格" --count 4 --background transparent\n
danqing show paintings/a-red-apple-3d-style-7.png

`danqing COMMAND --help` tells what each command takes. Exit codes: 0 done; 1 a file, weights or the machine
cannot; 2 the request is wrong; 130 cancelled.
"""


class _Lazy(TyperGroup):
    """Lists commands from the table, and imports one when it is called."""

    def resolve_command(
        self, ctx: Any, args: list[str]
    ) -> tuple[str | None, TyperCommand | TyperGroup, list[str]]:
        name, _placeholder, rest = super().resolve_command(ctx, args)
        assert name is not None, "super() has refused unknown names"
        return name, _load(name), rest


def _load(name: str) -> TyperCommand | TyperGroup:
    if name in OTHER_COMMANDS:
        module, attribute = OTHER_COMMANDS[name].place.split(":")
        made = getattr(import_module(module), attribute)
    else:
        from danqing.interfaces.cli.apps import app_command

        made = app_command(name)
    if not isinstance(made, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode="rich", context_settings=_SETTINGS)
        app.command(name)(made)
        made = app
    command = get_command(made)
    assert isinstance(command, TyperCommand | TyperGroup)
    localize(command)
    return command


def _version(show_version: bool) -> None:
    if show_version:
        print(f"danqing {danqing.__version__}")
        raise typer.Exit


_SETTINGS = {"help_option_names": ["-h", "--help"]}


def _app() -> typer.Typer:
    app = typer.Typer(cls=_Lazy, help=HELP, rich_markup_mode="rich", context_settings=_SETTINGS)

    @app.callback()
    def options(
        context: typer.Context,
        device: Annotated[
            str | None,
            typer.Option(
                envvar="DANQING_DEVICE",
                help="Where to paint: auto, cpu, cuda, cuda:1 or mps.",
                show_default="auto",
            ),
        ] = None,
        dtype: Annotated[
            str | None,
            typer.Option(
                envvar="DANQING_DTYPE",
                help="The numbers to compute in: float32, bf16 or fp16, which need half the memory.",
                show_default="float32",
            ),
        ] = None,
        backend: Annotated[
            str | None,
            typer.Option(
                envvar="DANQING_BACKEND",
                help="What runs the networks: auto, eager, openvino, openvino-bf16 or compile.",
                show_default="eager",
            ),
        ] = None,
        lang: Annotated[
            str | None,
            typer.Option(
                envvar="DANQING_LANG", help="The language of messages: en or zh.", show_default="the locale's"
            ),
        ] = None,
        version: Annotated[  # noqa: ARG001
            bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Tell the version.")
        ] = False,
    ) -> None:
        if context.resilient_parsing or context.invoked_subcommand in (None, "config"):
            return
        if lang is not None:
            from danqing.interfaces.cli.config import check_setting

            check_setting("language", lang)
        context.obj = _session({"device": device, "dtype": dtype, "backend": backend})

    for name, help in commands().items():
        app.command(name, help=help)(lambda: None)
    return app


def _session(options: Mapping[str, str | None]) -> Any:
    """The session of a command, with its options or else the settings."""
    from danqing.apps import Session
    from danqing.core.device import check_device_name
    from danqing.interfaces.cli.config import check_setting, read_config

    chosen: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name in chosen.keys() & {"dtype", "backend"}:
        check_setting(name, chosen[name])
    config: dict[str, Any] = {name: value for name, value in read_config().items() if name in options}
    check_device_name({"device": "auto", **config, **chosen}["device"])
    return Session(**{**config, **chosen})


def commands() -> dict[str, str]:
    """Maps each command to its line of help. Apps come first, and `paint` before all others."""
    apps = sorted(app_summaries().items(), key=lambda item: (item[0] != "paint", item[0]))
    return {**dict(apps), **{name: entry.help for name, entry in OTHER_COMMANDS.items()}}


def run(argv: Sequence[str]) -> int:
    """Run one command line and return the exit code; an error is one line on stderr."""
    with use_language(language_of(argv, os.environ)):
        return _run(argv)


def _run(argv: Sequence[str]) -> int:
    from danqing.interfaces.cli.habits import rewrite

    args, notes = rewrite(argv)
    for note in notes if not {"-q", "--quiet"} & set(args) else ():
        print(say(note), file=sys.stderr)
    try:
        program = localize(get_command(_app()))
        outcome = program.main(args=args or ["--help"], prog_name="danqing", standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        if " " in (words := next((word for word in args if not word.startswith("-")), "")):
            return _complain(f"{shorten(words)!r} is no command: danqing paint {quote(words)}", 2)
        message = error.format_message()
        if (
            message.startswith("No such command")
            and "Did you mean" not in message
            and words not in commands()
        ):
            words = " ".join(word for word in args if not word.startswith("-"))
            return _complain(f"{shorten(words)!r} is no command: danqing paint {quote(words)}", 2)
        hint = f" (see {context.command_path} --help)" if context else ""
        return _complain(message + hint, 2)
    except BadBrief as error:
        return _complain(str(error), 2)
    except DanqingError as error:
        return _complain(str(error), 1)
    except MemoryError:
        return _complain("not enough memory: ask for fewer or smaller pictures", 1)
    except OSError as error:  # for example a full disk, a lost connection or a removed folder
        place = f" {shorten(str(error.filename))!r}" if error.filename else ""
        return _complain(f"the system refuses{place}: {error.strerror or error}", 1)
    except (KeyboardInterrupt, typer.Abort):
        outcome = 130
    if outcome == 130:
        return _complain("cancelled", 130)
    return outcome if isinstance(outcome, int) else 0


def main() -> None:
    """The `danqing` script."""
    set_thread_policy()
    sys.stdout, out = patient_stream(sys.stdout)
    sys.stderr, _ = patient_stream(sys.stderr)
    warnings.showwarning = _warn  # users need no line of source code in a warning
    stop = StopSignals()
    with stop.handle():
        code = stop.exit_code(run(sys.argv[1:]))
    if sys.stdout is not None:
        sys.stdout.flush()
    if out is not None and out.error is not None:
        code = _complain(f"cannot write to standard output: {out.error.strerror}", code or 1)
    sys.exit(code)


def _warn(message: Warning | str, *_where: object, **_more: object) -> None:
    """Print a warning in one line, without the source code that caused it."""
    print(f"danqing: {say(' '.join(str(message).split()))}", file=sys.stderr)


def _complain(text: str, code: int) -> int:
    print(f"danqing: {say(' '.join(text.split()))}", file=sys.stderr)
    return code
