"""Running the server until Ctrl-C."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

import uvicorn

from danqing.core.errors import BadBrief, DanqingError
from danqing.interfaces.server.app import create_app
from danqing.interfaces.server.guard import LOCAL, GuardOptions
from danqing.studio.service import Studio, StudioOptions

_DRAIN = 5  # seconds for requests that are still answered


@dataclass(frozen=True)
class ServerOptions:
    """host, port: where to listen; port 0 is any that is free. token: see `GuardOptions`.

    page: with the page, not the API alone. ready: called with the address once it answers.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    page: bool = True
    ready: Callable[[str], None] = print


def serve(studio: StudioOptions, options: ServerOptions) -> None:
    """Serve until Ctrl-C or SIGTERM; running jobs are finished after the next start.

    Raises:
        BadBrief: an address that others can reach, without a token.
        DanqingError: the port is taken, or the folder is in use.
    """
    if options.host not in LOCAL and not options.token:
        raise BadBrief(
            f"--host {options.host} lets others in: give a --token that they must know, or leave --host out"
        )
    listener = _listen(options.host, options.port)
    with listener:
        place = Studio(studio)
        guard = GuardOptions(host=options.host, token=options.token)
        app = create_app(place, guard, page=options.page)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_DRAIN,
            h11_max_incomplete_event_size=64 * 1024,
        )
        name = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{name}:{listener.getsockname()[1]}"
        server = _Server(config, app.close, lambda: options.ready(address))
        with suppress(KeyboardInterrupt):  # uvicorn raises it once more when all is stopped
            server.run([listener])


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
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, reuse_port=False
        )
    except OSError as error:
        raise DanqingError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; give another --port"
        ) from None
