"""How commands find a server of the same user on this computer.

Beside its port a server listens at a socket in a folder that only the user can enter, and puts a file there
that says what it is. So whoever answers at the socket is the user's own server, and nobody else reads what is
sent. Systems without such sockets, as Windows, have none of this.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import danqing
from danqing.core.errors import DanqingError
from danqing.core.files import atomic_write

_UCRED = struct.Struct("3i")  # pid, uid, gid: see unix(7)


@dataclass(frozen=True)
class LocalServer:
    """A server of this user, as its file describes it.

    url: where its page or its API is. token: what it wants to be told, None for nothing.
    version, package: of danqing, and the folder where that is installed.
    folder: of the studio. device, dtype, backend: as of `Session`.
    """

    url: str
    token: str | None
    folder: str
    device: str
    dtype: str | None
    backend: str
    version: str = danqing.__version__
    package: str = str(Path(danqing.__file__).parent)


class LocalSocket:
    """Where a server listens for commands, while it is entered.

    sockets: to be listened at; none where the system has no such sockets, or no folder that is the user's.
    """

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._path = sockets_folder() / f"{secrets.token_hex(4)}.socket"
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        with suppress(OSError):  # a disk that is read only, or a path that is too long
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if _is_private(self._path.parent):
                _remove_stale(self._path.parent)
                self.sockets = [_bound(self._path)]
        return self

    def announce(self) -> None:
        """Let commands find the server: it answers now."""
        path = self._path.with_suffix(".json")
        if self.sockets:
            with suppress(OSError, DanqingError):
                path.touch(mode=0o600)  # which `atomic_write` keeps
                with atomic_write(path) as draft:
                    draft.write_text(json.dumps(asdict(self._server)), encoding="utf-8")

    def withdraw(self) -> None:
        """Let no more commands find the server."""
        self._path.with_suffix(".json").unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self.withdraw()
        for listener in self.sockets:
            listener.close()
            self._path.unlink(missing_ok=True)


def local_servers() -> Iterator[tuple[LocalServer, Path]]:
    """The servers of this user and this very danqing that listen, each with its socket; newest first."""
    folder = sockets_folder()
    if not _is_private(folder):
        return
    for path in sorted(folder.glob("*.json"), key=_changed_at, reverse=True):
        server, place = _read(path), path.with_suffix(".socket")
        if server is None or (server.version, server.package) != (_OWN.version, _OWN.package):
            continue
        with suppress(OSError):
            connect(place).close()
            yield server, place


def connect(place: Path, seconds: float | None = None) -> socket.socket:
    """A connection to the server that listens at a socket.

    seconds: to wait for each answer; None waits for ever.

    Raises:
        OSError: nobody listens there, or another user does.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(str(place))
        if hasattr(socket, "SO_PEERCRED"):
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            if _UCRED.unpack(peer)[1] != os.geteuid():
                raise PermissionError(f"another user listens at {place}")
    except OSError:
        connection.close()
        raise
    return connection


def sockets_folder() -> Path:
    """The folder of the sockets: where the system keeps such things of a session, else in the home."""
    if place := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(place) / "danqing"
    from platformdirs import user_state_path

    return user_state_path("danqing", appauthor=False) / "sockets"


def _is_private(folder: Path) -> bool:
    """Whether a folder is there, of this user, and nobody else can enter it."""
    if not hasattr(socket, "AF_UNIX"):
        return False
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _changed_at(path: Path) -> float:
    """When a file was written; 0 where its server has just removed it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    return listener


def _read(path: Path) -> LocalServer | None:
    """What a file says of a server; None where it says something else, or is gone."""
    try:
        values = json.loads(path.read_text("utf-8"))
        known_fields = {field.name for field in fields(LocalServer)}
        return LocalServer(**{name: values[name] for name in known_fields})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remove_stale(folder: Path) -> None:
    """Remove the sockets at which nobody listens, left by servers that were killed."""
    for path in folder.glob("*.socket"):
        try:
            connect(path).close()
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
        except OSError:
            continue


_OWN = LocalServer("", None, "", "", None, "")
