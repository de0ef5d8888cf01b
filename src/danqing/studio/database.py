"""The database of the studio: one SQLite file.

`create_all` makes the tables, and the file stores the version of its schema. Alembic would need a second
description of every table and a command to run; here each version has one function in `_UPGRADES`, which runs
when the file is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.orm import Session

from danqing.core.errors import DanqingError
from danqing.studio.tables import VERSION, Table

# milliseconds to wait for another writer; on a slow disk ten writers needed more than five seconds
_WAIT = 30_000

_UPGRADES: dict[int, Callable[[Connection], None]] = {1: lambda _: None, 2: lambda _: None}
"""Maps a version to the function that upgrades it to the next one. New tables are created for every version.

Version 1 lacked accounts, version 2 boards.
"""


class Database:
    """Transactions on one SQLite file (WAL), from several threads and processes at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _WAIT / 1000})
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        self._upgrade()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that excludes other writers from its first statement on.

        It is committed at the end.
        """
        with (
            Session(self._engine.execution_options(write=True), expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only transaction, which sees one state of the database."""
        with Session(self._engine, autoflush=False, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Close all connections of this process."""
        self._engine.dispose()

    def _upgrade(self) -> None:
        with self._engine.execution_options(write=True).connect() as connection, connection.begin():
            version = connection.execute(text("PRAGMA user_version")).scalar_one()
            if version > VERSION:
                raise DanqingError(
                    f"{str(self.path)!r} is of a newer danqing (schema {version}): update danqing"
                )
            for old in range(version or VERSION, VERSION):
                _UPGRADES[old](connection)
            Table.metadata.create_all(connection)
            connection.execute(
                text("CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, tokenize='unicode61')")
            )
            connection.execute(text(f"PRAGMA user_version = {VERSION}"))


def _prepare(connection: Any, _record: object) -> None:
    # sqlite3 must not begin transactions itself; SQLAlchemy's begin, below, does
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", f"busy_timeout={_WAIT}", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    kind = "IMMEDIATE" if connection.get_execution_options().get("write") else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {kind}")
