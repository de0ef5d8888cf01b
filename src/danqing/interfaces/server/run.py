"""Running the server until Ctrl-C."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from urllib.parse import urlsplit

import uvicorn

from danqing.core.errors import BadBrief, DanqingError
from danqing.interfaces.local_socket import LocalServer, LocalSocket
from danqing.interfaces.server.app import create_app
from danqing.interfaces.server.guard import LOCAL, Guard, GuardOptions
from danqing.studio.accounts import Accounts
from danqing.studio.service import Studio, StudioOptions

_DRAIN = 5  # seconds for requests that are still answered


@dataclass(frozen=True)
class ServerOptions:
    """host, port: where to listen; port 0 is any that is free. token, public_url: see `GuardOptions`.

    page: with the page, not the API alone. ready: called with the address once it answers.
    local: whether commands of the same user find it; see `interfaces/local_socket.py`.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    public_url: str | None = None
    page: bool = True
    ready: Callable[[str], None] = print
    local: bool = False


def serve(studio: StudioOptions, options: ServerOptions) -> None:
    """Serve until Ctrl-C or SIGTERM; running jobs are finished after the next start.

    Raises:
        BadBrief: an address that others can reach, without accounts or a token; or both.
        DanqingError: the port is taken, or the folder is in use.
    """
    listener = _listen(options.host, options.port)
    with listener:
        place = Studio(studio)
        try:
            _check_closed(options, place.store.accounts)
        except BadBrief:
            place.close()
            raise
        guard = GuardOptions(options.host, options.token, options.public_url)
        app = create_app(place, guard, page=options.page)
        address = _address(options.host, listener)
        with LocalSocket(_as_local(address, studio, options)) as local:

            def on_ready() -> None:
                if options.local:
                    local.announce()
                options.ready(address)

            def on_exit() -> None:
                local.withdraw()
                app.close()

            server = _Server(_config(app, options), on_exit, on_ready)
            with suppress(KeyboardInterrupt):  # uvicorn raises it once more when all is stopped
                server.run([listener, *local.sockets])


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def _as_local(address: str, studio: StudioOptions, options: ServerOptions) -> LocalServer:
    """What commands of the same user are told."""
    folder, device = str(studio.folder.resolve()), ",".join(studio.devices)
    return LocalServer(address, options.token, folder, device, studio.dtype, studio.backend)


def _config(app: Guard, options: ServerOptions) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=options.public_url is not None,  # of a proxy on this computer
        forwarded_allow_ips="127.0.0.1",
        timeout_graceful_shutdown=_DRAIN,
        h11_max_incomplete_event_size=64 * 1024,
    )


def _check_closed(options: ServerOptions, accounts: Accounts) -> None:
    """Raises BadBrief: others can reach the server, and nothing tells who they are; or two things do."""
    accounts_exist = accounts.exist()
    if accounts_exist and options.token:
        raise BadBrief("--token is for a studio without accounts: leave it out (and DANQING_TOKEN)")
    outside = options.host not in LOCAL
    if (outside or options.public_url) and not (accounts_exist or options.token):
        way = f"--host {options.host}" if outside else f"--public-url {options.public_url}"
        raise BadBrief(
            f"{way} lets others in: make an account first (danqing users add NAME), or give a --token"
        )
    if options.public_url and urlsplit(options.public_url).scheme not in ("http", "https"):
        raise BadBrief(f"--public-url {options.public_url!r}: write it as https://studio.example.org")


class _Server(uvicorn.Server):
    """Uvicorn that ends event streams when it shall stop, since it would wait for them."""

    def __init__(
        self, config: uvicorn.Config, on_exit: Callable[[], None], on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_exit, self._on_ready = on_exit, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As its base."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As its base."""
        super().handle_exit(sig, frame)
        self._on_exit()


def _listen(host: str, port: int) -> socket.socket:
    try:
        server = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, reuse_port=False
        )
    except OSError as error:
        raise DanqingError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; give another --port"
        ) from None
    # connections inherit it; else each answer of two packets waits 40 ms for the first one's acknowledgement
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server
