"""A client that reaches a server by its socket on this computer; see `local_socket.py`."""

from __future__ import annotations

from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.request import HTTPHandler, ProxyHandler, Request, build_opener

from danqing.interfaces.client import Client
from danqing.interfaces.local_socket import LocalServer, connect


class LocalClient(Client):
    """A client of a server on this computer. server: as it was found. place: its socket."""

    def __init__(self, server: LocalServer, place: Path) -> None:
        super().__init__("http://localhost", server.token)
        self.server = server
        self.opener = build_opener(ProxyHandler({}), _SocketHandler(place))


class _SocketHandler(HTTPHandler):
    """Opens all addresses by the same socket."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self._connection = partial(_SocketConnection, place)

    def http_open(self, req: Request) -> HTTPResponse:
        """See `HTTPHandler`."""
        return self.do_open(self._connection, req)


class _SocketConnection(HTTPConnection):
    def __init__(self, place: Path, host: str, *, timeout: float | None = None, **options: Any) -> None:
        super().__init__(host, timeout=timeout, **options)
        self._place = place

    def connect(self) -> None:
        """See `HTTPConnection`."""
        self.sock = connect(self._place, self.timeout)
