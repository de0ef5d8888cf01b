"""`danqing studio` and `danqing serve`."""

from __future__ import annotations

import logging
import webbrowser
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from danqing.apps import Session
from danqing.core.errors import DanqingError
from danqing.interfaces.cli.config import read_config
from danqing.interfaces.cli.hand_over import use_servers

FOLDER = "~/danqing-studio"
PORT = 7860
_ROWS = 16  # eight pictures with guidance

Host = Annotated[
    str, typer.Option(help="Address to listen on; any but this computer's own needs accounts, or a --token.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any that is free.")]
Folder = Annotated[
    Path,
    typer.Option(
        envvar="DANQING_STUDIO",
        help="Where pictures, uploads, the queue, models, adapters and styles are kept.",
    ),
]
Model = Annotated[str, typer.Option(help="Model to open at the start.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="DANQING_TOKEN", help="What every client must know, without accounts.", show_default=False
    ),
]
PublicUrl = Annotated[
    str | None,
    typer.Option(help="How others reach it by a proxy: https://studio.example.org.", show_default=False),
]


def studio(
    context: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = PORT,
    folder: Folder = Path(FOLDER),
    model: Model = "stickers",
    token: Token = None,
    public_url: PublicUrl = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Paint in the browser: a page with a queue and a gallery, on this computer.

    Ctrl-C stops it; what was being painted is finished after the next start.
    """

    def ready(address: str) -> None:
        page = f"{address}/#token={token}" if token else f"{address}/"
        print(f"danqing studio: {page}", flush=True)
        if browser:
            webbrowser.open(page)

    _serve(context, (host, port, token, public_url), (folder, model), ready=ready, page=True)


def serve(
    context: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = PORT,
    folder: Folder = Path(FOLDER),
    model: Model = "stickers",
    token: Token = None,
    public_url: PublicUrl = None,
    throughput: Annotated[
        bool,
        typer.Option(
            "--throughput",
            help="Paint several requests at once: more pictures a minute, which differ from single ones by "
            "a grey level here and there.",
        ),
    ] = False,
) -> None:
    """Serve the HTTP API alone: our own, OpenAI's Images and A1111's.

    Ctrl-C stops it; what was being painted is finished after the next start.
    """

    def ready(address: str) -> None:
        print(f"danqing serve: {address}", flush=True)

    rows = _ROWS if throughput else 1
    _serve(context, (host, port, token, public_url), (folder, model), ready=ready, page=False, rows=rows)


def _serve(
    context: typer.Context,
    address: tuple[str, int, str | None, str | None],
    place: tuple[Path, str],
    *,
    ready: Callable[[str], None],
    page: bool,
    rows: int = 1,
) -> None:
    """Serve at (host, port, token, public URL), from (folder, model); rows: as of `StudioOptions`."""
    check_packages()
    from danqing.interfaces.server.run import ServerOptions
    from danqing.interfaces.server.run import serve as run
    from danqing.studio.service import StudioOptions

    logging.basicConfig(format="danqing: %(message)s", level=logging.WARNING)
    session = context.obj if isinstance(context.obj, Session) else Session()
    (host, port, token, public_url), (folder, model) = address, place
    devices = tuple(session.device.split(","))
    options = StudioOptions(folder.expanduser(), devices, model, session.backend, rows, dtype=session.dtype)
    local = rows == 1 and use_servers(read_config())
    run(options, ServerOptions(host, port, token, public_url, page, ready, local))


def check_packages() -> None:
    """Raises DanqingError: the packages of a studio are not installed."""
    if any(find_spec(name) is None for name in ("fastapi", "sqlalchemy", "uvicorn", "filelock", "argon2")):
        raise DanqingError("the studio needs more packages: pip install 'danqing[studio]', or make studio")
