"""Server-sent events: sends events to connected clients, and missed ones again after a reconnection."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from danqing.interfaces.server.views import job_view, job_views, picture_views
from danqing.studio.errors import NotThere
from danqing.studio.events import events_after, last_event
from danqing.studio.frames import Frame
from danqing.studio.jobs import OVER
from danqing.studio.service import Studio
from danqing.studio.tables import EventRow

_PING = 15.0  # seconds
_WAITING_MAX = 2000  # messages; a slower client is disconnected, and reconnects with Last-Event-ID
_REPLAY = 500  # number of events read at once

JOB, ACCOUNT = "job", "account"


@dataclass(frozen=True)
class Message:
    """An event for the clients of `owner`.

    kind: name of the event.
    job: id of its job; None if it has none.
    number: number of the event in the database; 0 if it is not stored.
    last: whether it is the last one of its job.
    """

    owner: str
    kind: str
    job: str | None
    data: str
    number: int = 0
    last: bool = False

    def encode(self) -> bytes:
        """The event in the format of server-sent events."""
        number = f"id: {self.number}\n" if self.number else ""
        return f"{number}event: {self.kind}\ndata: {self.data}\n\n".encode()


class Listener:
    """One connection.

    job: restricts it to the events of this job; None for all.
    """

    def __init__(self, owner: str, job: str | None = None) -> None:
        self.owner, self.job = owner, job
        self._events: deque[Message] = deque()
        self._frames: dict[tuple[str, str | None], Message] = {}
        self._news = asyncio.Event()
        self.closed = False

    def wants(self, message: Message) -> bool:
        """Whether the connection gets a message."""
        return message.owner == self.owner and (self.job is None or message.job == self.job)

    def put(self, message: Message) -> None:
        """Add a message. Of progress messages only the last one of each job is kept."""
        if message.number:
            self._events.append(message)
        else:
            self._frames[message.kind, message.job] = message
        if len(self._events) > _WAITING_MAX:
            self.closed = True
        self._news.set()

    def close(self) -> None:
        """End the connection after the messages that it has."""
        self.closed = True
        self._news.set()

    async def take(self) -> list[Message]:
        """The messages since the last call; an empty list after some seconds without any."""
        try:
            await asyncio.wait_for(self._news.wait(), _PING)
        except TimeoutError:
            return []
        self._news.clear()
        messages = [*self._events, *self._frames.values()]
        self._events.clear()
        self._frames.clear()
        return messages


class Hub:
    """All connections. Events come from threads of the studio, and are passed on in the event loop."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._listeners: set[Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owners: dict[str, str] = {}
        self._positions: dict[str, Any] = {}
        self._closed = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Subscribe to the studio's events."""
        self._loop = loop
        self._studio.on_events, self._studio.on_frame = self._on_events, self._on_frame

    def close(self) -> None:
        """End all connections, also new ones, so that the server can stop."""
        self._closed = True
        for listener in self._listeners:
            listener.close()

    async def stream(self, listener: Listener, after: int | None) -> AsyncIterator[bytes]:
        """The encoded events of a connection.

        after: number of the last event that the client has; None if it has none.
        """
        yield b": danqing\n\n"
        async for message in self.messages(listener, after):
            yield b": \n\n" if message is None else message.encode()

    async def messages(self, listener: Listener, after: int | None = None) -> AsyncIterator[Message | None]:
        """The messages for `listener` until its job is over; None after some seconds without any."""
        self._listeners.add(listener)
        try:
            sent, over = after or 0, False
            async for message in self._beginning(listener, after):
                sent, over = max(sent, message.number), over or message.last
                yield message
            if over and listener.job:
                return
            while not (listener.closed or self._closed):
                messages = await listener.take()
                if not messages:
                    yield None
                for message in messages:
                    if message.number and message.number <= sent:
                        continue
                    yield message
                    if message.last and listener.job:
                        return
        finally:
            self._listeners.discard(listener)

    async def _beginning(self, listener: Listener, after: int | None) -> AsyncIterator[Message]:
        """The events that the client has missed, or the present state for a new one; then the last frames."""
        if after is None:
            for message in await asyncio.to_thread(self._standing, listener):
                yield message
        while after is not None:
            numbers, messages = await asyncio.to_thread(self._missed_events, listener, after)
            for message in messages:
                yield message
            if numbers < 0:
                break
            after = numbers
        for frame in list(self._studio.pool.frames.values()):
            step = self._frame_message(frame)
            if step is not None and listener.wants(step):
                yield step

    def _standing(self, listener: Listener) -> list[Message]:
        store = self._studio.store
        with store.database.read() as session:
            number = last_event(session)
        if listener.job is not None:
            rows = [store.queue.get(listener.owner, listener.job)]
        else:
            rows = list(reversed(store.queue.page(listener.owner, states=("queued", "running"), limit=200)))
        views = job_views(self._studio, rows)
        return [
            Message(listener.owner, JOB, view.id, view.model_dump_json(), number, view.state in OVER)
            for view in views
        ]

    def _missed_events(self, listener: Listener, after: int) -> tuple[int, list[Message]]:
        """The next stored events, and the number of the last one; -1 if there are no more."""
        with self._studio.store.database.read() as session:
            events = events_after(session, after, _REPLAY)
        messages = [message for message in self._messages(events) if listener.wants(message)]
        return (events[-1].number if len(events) == _REPLAY else -1), messages

    def _on_events(self, events: Sequence[EventRow]) -> None:
        self._owners.update({event.subject: event.owner for event in events if event.kind == JOB})
        if changed := {event.owner for event in events if event.kind == ACCOUNT}:
            self._end_of(changed)
        if self._listeners:
            self._publish([*self._messages(events), *self._moves()])

    def _on_frame(self, frame: Frame) -> None:
        if self._listeners and (message := self._frame_message(frame)) is not None:
            self._publish([message])

    def _end_of(self, owners: set[str]) -> None:
        """End the connections of accounts that have changed; clients that may still enter reconnect."""

        def end() -> None:
            for listener in self._listeners:
                if listener.owner in owners:
                    listener.close()

        self._in_loop(end)

    def _publish(self, messages: list[Message]) -> None:
        def hand_over() -> None:
            for listener in self._listeners:
                for message in messages:
                    if listener.wants(message):
                        listener.put(message)

        self._in_loop(hand_over)

    def _in_loop(self, action: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)

    def _messages(self, events: Sequence[EventRow]) -> Iterator[Message]:
        """Convert events to messages, with the present state of their job or picture."""
        store = self._studio.store
        for event in events:
            if event.kind == ACCOUNT:
                continue
            try:
                if event.kind == JOB:
                    view = job_view(self._studio, store.queue.get(event.owner, event.subject))
                    text = view.model_dump_json()
                    yield Message(event.owner, JOB, event.job, text, event.number, event.last)
                else:
                    [picture] = picture_views(self._studio, [store.gallery.get(event.owner, event.subject)])
                    data: dict[str, Any] = {"picture": picture.model_dump(mode="json")}
                    head = (
                        {"job": event.job, "index": picture.index}
                        if event.kind == "picture"
                        else {"id": event.subject}
                    )
                    yield Message(
                        event.owner, event.kind, event.job, json.dumps({**head, **data}), event.number
                    )
            except NotThere:
                gone = json.dumps({"id": event.subject, "picture": None})
                yield Message(event.owner, "gallery", event.job, gone, event.number)

    def _moves(self) -> Iterator[Message]:
        """Messages for waiting jobs whose place in the queue has changed."""
        places = self._studio.places()
        for job, place in places.items():
            if place.position and self._positions.get(job) != place and (owner := self._owners.get(job)):
                data = {"job": job, "position": place.position, "eta": place.eta}
                yield Message(owner, "position", job, json.dumps(data))
        self._positions = places
        self._owners = {job: owner for job, owner in self._owners.items() if job in places}

    def _frame_message(self, frame: Frame) -> Message | None:
        owner = self._owner_of(frame.job)
        if owner is None:
            return None
        place = self._studio.places().get(frame.job)
        picture = None if frame.preview is None else base64.b64encode(frame.preview).decode()
        data = {
            "job": frame.job,
            "step": frame.step,
            "of": frame.of,
            "message": frame.message,
            "eta": place.eta if place else None,
            "picture": frame.picture,
            "preview": picture and f"data:image/jpeg;base64,{picture}",
        }
        return Message(owner, "progress", frame.job, json.dumps(data))

    def _owner_of(self, job: str) -> str | None:
        if job not in self._owners:
            owner = self._studio.store.queue.owner_of(job)
            if owner is not None:
                self._owners[job] = owner
        return self._owners.get(job)
