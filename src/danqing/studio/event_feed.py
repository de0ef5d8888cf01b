"""Sends new events in the database to clients, in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Thread

from danqing.studio.database import Database
from danqing.studio.events import events_after, last_event
from danqing.studio.tables import EventRow

_LOOK = 2.0  # seconds between checks without a notification


class EventFeed:
    """Passes each new event to `listener`, in a thread of its own."""

    def __init__(self, database: Database, listener: Callable[[Sequence[EventRow]], None]) -> None:
        self._database, self._listener = database, listener
        self._news, self._ending = Event(), Event()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the thread. It passes only events that come later."""
        with self._database.read() as session:
            self._last = last_event(session)
        self._thread.start()

    def notify(self) -> None:
        """Check for new events now."""
        self._news.set()

    def stop(self) -> None:
        """Stop the thread."""
        self._ending.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._news.wait(_LOOK)
            self._news.clear()
            while events := self._read():
                self._last = events[-1].number
                self._listener(events)

    def _read(self) -> Sequence[EventRow]:
        with self._database.read() as session:
            return events_after(session, self._last)
