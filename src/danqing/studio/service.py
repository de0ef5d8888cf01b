"""The studio: the queue, the gallery and the workers of one folder, behind one class for servers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from filelock import FileLock, Timeout

from danqing.core.errors import DanqingError
from danqing.studio.accounts import Role
from danqing.studio.browse import Filter, Match
from danqing.studio.errors import Forbidden, NotThere
from danqing.studio.event_feed import EventFeed
from danqing.studio.events import forget_events
from danqing.studio.files import check_space
from danqing.studio.frames import Frame
from danqing.studio.ids import is_id
from danqing.studio.jobs import OVER, Limits
from danqing.studio.pool import Pool
from danqing.studio.queue_places import Place, queue_places
from danqing.studio.requests import CardSession, parse_request
from danqing.studio.store import Store
from danqing.studio.tables import EventRow, JobRow
from danqing.studio.vectors import Vector, from_bytes
from danqing.studio.worker import WorkerOptions

_CARE = 5.0  # seconds between checks for expired leases
_HOUR = 3600.0

SHARED_RESULTS = ("learn",)
"""Apps whose result everybody can use: adapters that were trained can be named in every prompt."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudioOptions:
    """How to open a studio.

    folder: the folder of all its files.
    devices: one worker runs on each.
    model: name of the model that is opened at the start.
    backend, dtype: as in `Session`.
    rows: most rows of the network in one call; 1 does one job at a time.
    limits: how many jobs may wait.
    """

    folder: Path
    devices: tuple[str, ...] = ("auto",)
    model: str = "stickers"
    backend: str = "eager"
    rows: int = 1
    limits: Limits = field(default_factory=Limits)
    dtype: str | None = None


class Studio:
    """Everything that a server needs. Its methods block for milliseconds; async servers call them in threads.

    on_events: called with new events.
    on_frame: called with each frame of a running job.
    """

    def __init__(self, options: StudioOptions) -> None:
        options.folder.mkdir(parents=True, exist_ok=True)
        self.options = options
        self._folder_lock = FileLock(options.folder / "studio.lock", timeout=1)
        try:
            self._folder_lock.acquire()
        except Timeout:
            raise DanqingError(
                f"another danqing uses {str(options.folder)!r}: stop it, or give another --folder"
            ) from None
        self.store = Store(options.folder, options.limits)
        self.session = CardSession(**self.store.session_options)
        self.on_events: Callable[[Sequence[EventRow]], None] = lambda _: None
        self.on_frame: Callable[[Frame], None] = lambda _: None
        self._feed = EventFeed(self.store.database, self._hear)
        self.pool = Pool(
            [
                WorkerOptions(
                    options.folder,
                    device,
                    dtype=options.dtype,
                    backend=options.backend,
                    rows=options.rows,
                )
                for device in options.devices
            ],
            self.store.queue,
        )
        self._ending = Event()
        self._care = Thread(target=self._take_care, daemon=True)
        self._places: dict[str, Place] = {}
        self._places_lock, self._places_time = Lock(), 0.0

    def start(self) -> None:
        """Repair what a crash left, and start the workers."""
        queue = self.store.queue
        if (again := queue.recover()) > 0:
            log.warning("%d jobs were interrupted and begin again", again)
        self.store.sweep()
        self.pool.on_change = self._feed.notify
        self.pool.on_frame = lambda frame: self.on_frame(frame)
        self._feed.start()
        self.pool.start()
        self.pool.tell("open", self.options.model)
        self._care.start()

    def stop(self) -> None:
        """Stop the workers within a step; unfinished jobs are done after the next start."""
        self._ending.set()
        self.pool.stop()
        self._feed.stop()
        self.close()

    def close(self) -> None:
        """Release the folder of a studio that was never started."""
        self.store.close()
        self._folder_lock.release()

    def submit(self, owner: str, app: str, values: Mapping[str, Any], key: str | None = None) -> JobRow:
        """Queue a job.

        Raises:
            BadBrief, BadPicture: the request is not valid.
            Forbidden: the owner's role does not allow it.
            QueueFull: too many jobs wait.
            StorageFull: the disk is full.
        """
        check_space(self.options.folder)
        guest = self.store.accounts.role_of(owner) is Role.GUEST
        if guest and app in SHARED_RESULTS:
            raise Forbidden(f"guests may not use {app!r}, whose result all accounts share: ask an admin")
        request = parse_request(app, values, self.session, self.store.image_lookup(owner), key)
        job = self.store.queue.submit(owner, request, guest=guest)
        self.pool.tell("wake")
        self._tell_clients()
        return job

    def cancel(self, owner: str, job: str) -> JobRow:
        """Cancel a job. Raises NotThere; Conflict: it is over."""
        row = self.store.queue.cancel(owner, job)
        self.pool.tell("cancel", job)
        self._tell_clients()
        return row

    def places(self) -> dict[str, Place]:
        """The place of each job that is not over, at most half a second old."""
        with self._places_lock:
            if time.monotonic() - self._places_time > 0.5:
                frames = list(self.pool.frames.items())
                paces = {job: frame.left for job, frame in frames if frame.left is not None}
                self._places = queue_places(self.store.database, paces, len(self.options.devices))
                self._places_time = time.monotonic()
            return self._places

    def search(self, words: str, which: Filter) -> list[Match]:
        """Search pictures by words and, if a worker can compute the embedding, by meaning."""
        return self.store.browser.search(words, self.pool.embed("words", words), which)

    def like(self, image: str, which: Filter) -> list[Match]:
        """Pictures similar to a picture or an upload. Raises NotThere."""
        vector = self._vector(which.owner, image)
        matches = [] if vector is None else self.store.browser.by_meaning(vector, which)
        return [match for match in matches if match.row.id != image]

    def remove_account(self, name: str, heir: str | None) -> None:
        """Remove an account; see `Store.remove_account`. Its running jobs stop within a step."""
        for job in self.store.remove_account(name, heir):
            self.pool.tell("cancel", job)
        self._tell_clients()

    def notify_clients(self) -> None:
        """Notify clients after a change of the gallery or an account."""
        self._feed.notify()

    def _tell_clients(self) -> None:
        self._places_time = 0.0
        self._feed.notify()

    def _vector(self, owner: str, image: str) -> Vector | None:
        if not is_id(image):
            return self.pool.embed("file", self.store.uploads.path(owner, image))
        row = self.store.gallery.get(owner, image)
        return None if row.vector is None else from_bytes(row.vector)

    def _hear(self, events: Sequence[EventRow]) -> None:
        jobs = {event.subject: event.owner for event in events if event.kind == "job"}
        for job, owner in jobs.items():
            try:
                if self.store.queue.get(owner, job).state in OVER:
                    self.pool.frames.pop(job, None)
            except NotThere:
                continue
        self._places_time = 0.0
        self.on_events(events)

    def _take_care(self) -> None:
        """Free the jobs of workers without heartbeat, and delete old events, at intervals."""
        next_hour = 0.0
        while not self._ending.wait(_CARE):
            if self.store.queue.expire():
                log.warning("a worker was not heard of for too long; its job begins again")
                self._feed.notify()
                self.pool.tell("wake")
            if time.monotonic() > next_hour:
                next_hour = time.monotonic() + _HOUR
                with self.store.database.write() as session:
                    forget_events(session)
