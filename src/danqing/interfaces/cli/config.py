"""`danqing config`: what is chosen where a command says nothing.

The file is `config.toml` where the system has such files (XDG, or AppData on Windows), or what DANQING_CONFIG
names.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from danqing.core.errors import BadBrief, DanqingError, shorten, unknown
from danqing.core.files import atomic_write
from danqing.execution.names import BACKENDS
from danqing.interfaces.cli.language import say


class Setting(NamedTuple):
    """help: what it is. choices: all that it may be; empty for any text."""

    help: str
    choices: tuple[str, ...] = ()


SETTINGS = {
    "model": Setting("the model that paints, instead of stickers"),
    "style": Setting("the style of pictures that are painted from words"),
    "format": Setting("how pictures are saved: png, webp or jpg", ("png", "webp", "jpg")),
    "folder": Setting("where pictures are saved, instead of paintings"),
    "language": Setting("the language of messages: en or zh", ("en", "zh")),
    "device": Setting("where to paint: auto, cpu, cuda, cuda:1 or mps"),
    "dtype": Setting("the numbers to compute in: float32, bf16 or fp16", ("float32", "bf16", "fp16")),
    "server": Setting("whether a running studio paints for commands: auto or off", ("auto", "off")),
    "backend": Setting(f"what runs the networks: {', '.join(BACKENDS)}", tuple(BACKENDS)),
}

app = typer.Typer(
    help="Choose what commands use when they say nothing.", add_completion=False, invoke_without_command=True
)
Key = Annotated[
    str, typer.Argument(help=f"One of {', '.join(SETTINGS)}.", autocompletion=lambda: list(SETTINGS))
]


def config_path() -> Path:
    """Where the settings are kept."""
    place = os.environ.get("DANQING_CONFIG")
    if place:
        return Path(place)
    from platformdirs import user_config_path

    return user_config_path("danqing", appauthor=False) / "config.toml"


def read_config() -> dict[str, str]:
    """The settings that were chosen; none where there is no file, or no home.

    Raises:
        BadBrief: the file cannot be read, or holds what is no setting.
    """
    path = config_path()
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # under sudo the home is another's
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _damage_error(path, error) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _damage_error(path, error) from None
    for name, value in values.items():
        check_setting(name, value, str(path))
    return values


def _damage_error(path: Path, error: Exception) -> BadBrief:
    reason = getattr(error, "strerror", None) or str(error)
    return BadBrief(f"the settings in {str(path)!r} cannot be read: {reason}; mend or delete the file")


def check_setting(name: str, value: object, place: str = "") -> None:
    """Raises BadBrief: no setting, or a value that it cannot have. place: the file, for the message."""
    where = f" in {place!r}" if place else ""
    if name not in SETTINGS:
        raise BadBrief(unknown("setting", name, SETTINGS) + where)
    choices = SETTINGS[name].choices
    if not isinstance(value, str) or not value or (choices and value not in choices):
        expected = f"use one of {', '.join(choices)}" if choices else "give a text"
        raise BadBrief(f"setting {name} {shorten(str(value))!r}{where} is not understood: {expected}")


def _write(values: dict[str, str]) -> None:
    # a JSON string is a TOML string, too
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in sorted(values.items())]
    with atomic_write(config_path()) as draft:
        draft.write_text("".join(lines), encoding="utf-8")


@app.callback()
def settings(context: typer.Context) -> None:
    """Choose what commands use when they say nothing."""
    if context.invoked_subcommand is None:
        list_settings()


@app.command("get")
def get_setting(name: Key) -> None:
    """Print a setting; nothing where it is not chosen.

    danqing config get model
    """
    if name not in SETTINGS:
        raise BadBrief(unknown("setting", name, SETTINGS))
    if name in (values := read_config()):
        print(values[name])


@app.command("set")
def set_setting(name: Key, value: Annotated[str, typer.Argument(help="What to use.")]) -> None:
    """Choose a setting.

    danqing config set format webp
    """
    check_setting(name, value)
    if name in _CHECKS:
        _CHECKS[name](value)
    _write({**read_config(), name: value})


@app.command("unset")
def unset_setting(name: Key) -> None:
    """Leave a setting to danqing again.

    danqing config unset format
    """
    if name not in SETTINGS:
        raise BadBrief(unknown("setting", name, SETTINGS))
    _write({key: value for key, value in read_config().items() if key != name})


@app.command("list")
def list_settings() -> None:
    """Print all settings with what is chosen.

    danqing config list
    """
    values = read_config()
    width = max(map(len, SETTINGS))
    for name, setting in SETTINGS.items():
        print(f"{name:<{width}}  {values.get(name, '-')}  ({say(setting.help)})")


@app.command("path")
def print_path() -> None:
    """Print where the settings are kept.

    danqing config path
    """
    print(config_path())


def _check_model(name: str) -> None:
    from danqing.apps import Session

    Session().place_of(name)


def _check_folder(name: str) -> None:
    if Path(name).exists() and not Path(name).is_dir():
        raise DanqingError(f"{shorten(name)!r} is a file: name a folder")


_CHECKS: dict[str, Callable[[str], None]] = {"model": _check_model, "folder": _check_folder}
"""Setting -> what refuses a value that cannot work."""
