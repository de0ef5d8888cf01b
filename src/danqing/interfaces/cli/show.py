"""`danqing show`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from danqing.apps import find_app, names, with_switches
from danqing.core.errors import BadBrief, BadPicture
from danqing.core.picture import FORMATS, Picture, decode_file
from danqing.core.source_image import read_source
from danqing.execution.names import BACKENDS
from danqing.interfaces.cli.options import app_line, command_line
from danqing.interfaces.cli.shell import quote

if TYPE_CHECKING:
    from danqing.apps import OtherSettings


def show(
    picture: Annotated[
        str, typer.Argument(help="A picture or film, also of A1111 and others.", show_default=False)
    ],
) -> None:
    """Show how a picture was made, and the command that repaints it.

    danqing show paintings/a-red-panda-7.png
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    other = _other_settings(Path(picture))
    if other is None:
        opened = Picture.open(picture)
        rows, command = _rows(opened), _command(opened)
        if (changed := _changed_source(opened)) is not None:
            print(f"danqing: {_printable(changed)}", file=sys.stderr)
    else:
        rows, command = _other_rows(other), f"danqing paint --from {quote(picture)}"
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for label, value in rows.items():
        table.add_row(Text(label, style="bold"), Text(_printable(value)))
    Console(highlight=False).print(table)
    print(f"\n{_printable(command)}")


def _other_settings(path: Path) -> OtherSettings | None:
    """Settings by another program in a picture that danqing did not paint.

    Raises:
        BadPicture: the picture cannot be read.
    """
    from danqing.apps import read_other_settings

    if decode_file(path, (*FORMATS, "GIF")).text is not None:
        return None
    return read_other_settings(path)


def _other_rows(other: OtherSettings) -> dict[str, str]:
    size = "" if other.size is None else "x".join(map(str, other.size))
    facts = {**other.fields, "size": size, "model": other.model, "painted by": other.program}
    rows = {**facts, "not kept": ", ".join(other.unread)}
    return {label.replace("_", " "): str(value) for label, value in rows.items() if value not in (None, "")}


def _changed_source(picture: Picture) -> str | None:
    """A message if the file of the source picture has changed; None if it has not, or is missing."""
    name, parent = picture.brief.image, picture.info.parent
    if not name or parent is None or not Path(name).is_file():
        return None
    try:
        same = read_source(name).id == parent
    except BadPicture:
        return None
    if same:
        return None
    return f"{name!r} has changed since: the command below paints another picture"


def _command(picture: Picture) -> str:
    """The command that makes the picture again: with the app's inputs, and what the model's card decided.

    The inputs come from a stranger's file: if they no longer fit the app, only its name and prompt are shown.
    """
    command, backend = _app_command(picture), picture.info.backend.partition(" ")[0]
    again = f"danqing --backend {backend}" if backend in BACKENDS and backend != "eager" else "danqing"
    return again + command.removeprefix("danqing")


def _app_command(picture: Picture) -> str:
    brief, info = picture.brief, picture.info
    if info.app not in names() or not info.inputs:
        return command_line(brief)
    inputs = find_app(info.app).inputs
    fields = {*inputs.model_fields, *inputs.switches}
    decided = {name: getattr(brief, name) for name in ("model", "steps", "guidance", "sampler")}
    followers = {name: value for name in ("control_model", "ip_adapter") if (value := getattr(brief, name))}
    values = {**decided, **info.inputs, **followers}
    values = {name: value for name, value in values.items() if name in fields}
    try:
        return app_line(info.app, inputs.of_mapping(with_switches(inputs, values)))
    except BadBrief:
        return command_line(brief)


def _rows(picture: Picture) -> dict[str, str]:
    brief, info = picture.brief, picture.info
    rows = {
        **{name.replace("_", " "): value for name, value in brief.model_dump(exclude_defaults=True).items()},
        "chosen": info.chosen,
        "not learned": info.unlearned,
        "file": f"{picture.image.width}x{picture.image.height} {picture.image.mode}",
        "made by": f"{info.app}, {', '.join(f'{name} {version}' for name, version in info.versions.items())}",
        "networks by": info.backend if info.backend != "eager" else "",
        "seconds": info.seconds,
        "parent": info.parent,
        "not painted": info.dropped,
        "not read": ", ".join(info.unread),
    }
    texts = {label: ", ".join(v) if isinstance(v, tuple) else v for label, v in rows.items()}
    return {label: str(value) for label, value in texts.items() if value not in (None, "")}


def _printable(text: str) -> str:
    # metadata may come from strangers: an escape sequence must not reach the terminal
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
