"""A worker: a separate process that does the jobs of the queue on one device.

It does one job at a time, byte-equal to the command's result; or, if `rows` is above 1, several jobs whose
network calls share batches.

The database is the only shared state of server and worker; a pipe between them carries hints: there are new
jobs, stop a job, progress of a job. When the server dies the pipe closes and the worker ends; its job is done
again after the next start.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from danqing.apps import App, AppInputs, NamedSession, find_app
from danqing.core.errors import DanqingError
from danqing.core.progress import Progress
from danqing.studio.clip_index import ClipIndex
from danqing.studio.errors import StorageFull, error_record
from danqing.studio.frames import FrameThrottle
from danqing.studio.jobs import LEASE, Claim, LostClaim
from danqing.studio.requests import check_values, expected_pictures
from danqing.studio.results import Work
from danqing.studio.store import Store
from danqing.studio.throughput import ThroughputSession

_LOOK = 2.0  # seconds between checks of the queue without a hint
_NICE = 5  # lower priority, so that the server answers while the worker paints

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerOptions:
    """How to run a worker.

    folder: the studio's folder.
    device, dtype, backend: as in `Session`.
    name: of this worker, never used before.
    rows: most rows of the network in one call; 1 does one job at a time.
    """

    folder: Path
    device: str
    name: str = ""
    dtype: str | None = None
    backend: str = "eager"
    rows: int = 1


class Stopped(Exception):  # noqa: N818
    """The job is cancelled, or the worker has to end."""


def work(options: WorkerOptions, connection: Connection) -> None:
    """The main function of the process."""
    # Ctrl-C goes to the whole process group; the server sends its own message
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(max(0, _NICE - os.nice(0)))
    Worker(options, connection).run()


class Worker:
    """Claims jobs and does them until it is told to stop."""

    def __init__(self, options: WorkerOptions, connection: Connection) -> None:
        self._options, self._connection = options, connection
        self._store = Store(options.folder)
        self._session = _session(options, self._store.session_options)
        self._meaning = ClipIndex()
        self._wake, self._ending = Event(), Event()
        self._jobs: dict[str, Event] = {}  # running jobs -> the event that stops each of them
        self._questions: SimpleQueue[Callable[[], None]] = SimpleQueue()
        # models to open; they wait for the running job
        self._openings: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._send_lock = Lock()

    def run(self) -> None:
        """Claim and do jobs until the worker is stopped."""
        Thread(target=self._listen, daemon=True).start()
        for questions in (self._questions, self._openings):
            Thread(target=self._answer, args=(questions,), daemon=True).start()
        while not self._ending.is_set():
            self._wake.clear()
            claim = self._store.queue.claim(self._options.name) if self._has_room() else None
            if claim is None:
                self._wake.wait(_LOOK)
            elif self._options.rows == 1:
                self._do(claim)
            else:
                self._jobs[claim.job] = Event()
                Thread(target=self._do, args=(claim,)).start()
        while self._jobs:
            self._wake.clear()
            self._wake.wait(_LOOK)
        self._store.close()

    def _has_room(self) -> bool:
        """Whether to start another job beside the running ones; a picture with guidance needs two rows."""
        return len(self._jobs) < max(1, self._options.rows // 2)

    def _do(self, claim: Claim) -> None:
        """Do one job to its end, whether it succeeds, fails or is cancelled."""
        stopping = self._jobs.setdefault(claim.job, Event())
        self._send("changed")
        over = Event()
        Thread(target=self._keep_alive, args=(claim, stopping, over), daemon=True).start()
        queue = self._store.queue
        try:
            result = self._run(claim, stopping)
            queue.finish(claim, result)
        except LostClaim:
            log.warning("job %s is another worker's now", claim.job)
        except Stopped:
            with suppress(LostClaim):
                (queue.give_back if self._ending.is_set() else queue.stop)(claim)
        except Exception as error:
            self._fail(claim, error)
        finally:
            over.set()
            del self._jobs[claim.job]
            self._wake.set()
            self._send("changed")

    def _run(self, claim: Claim, stopping: Event) -> dict[str, Any] | None:
        app = find_app(claim.app)
        check_values(app, claim.inputs)
        inputs = app.parse(claim.inputs, self._session, self._store.image_lookup(claim.owner))
        expected = expected_pictures(app, inputs)
        self._store.queue.add_notes(claim, inputs.notes, expected)
        if isinstance(self._session, ThroughputSession):
            self._session.as_user(claim.owner)
        result = self._work(claim, app, inputs, stopping).run()
        self._store.queue.add_notes(claim, inputs.notes, expected)  # remarks that came up during the work
        return result

    def _work(self, claim: Claim, app: App[Any, Any], inputs: AppInputs, stopping: Event) -> Work:
        camera = FrameThrottle(claim.job, lambda frame: self._send("frame", frame))

        begin = cache(lambda: self._store.queue.begin(claim))

        def progress(progress: Progress) -> None:
            if stopping.is_set() or self._ending.is_set():
                raise Stopped
            begin()
            camera(progress)

        def on_finished(count: int) -> None:
            camera.picture = count
            self._send("changed")

        return Work(
            claim, app, inputs, self._session, self._store.gallery, self._meaning, progress, on_finished
        )

    def _fail(self, claim: Claim, error: Exception) -> None:
        error = _plain(error)
        if isinstance(error, MemoryError):
            self._session.close()
        if not isinstance(error, DanqingError | MemoryError):
            log.exception("job %s failed", claim.job)
        with suppress(LostClaim):
            self._store.queue.fail(claim, error_record(error, frozenset(claim.inputs)))

    def _keep_alive(self, claim: Claim, stopping: Event, over: Event) -> None:
        """Renew the lease while the job runs; stop the job if it was cancelled or its claim was lost."""
        while not over.wait(LEASE / 6):
            try:
                if self._store.queue.heartbeat(claim):
                    stopping.set()
            except LostClaim:
                stopping.set()
                return

    def _listen(self) -> None:
        """Handle messages of the server; if the server dies, end the worker."""
        try:
            while True:
                kind, *values = self._connection.recv()
                getattr(self, f"_on_{kind}")(*values)
        except (EOFError, OSError):
            os._exit(1)

    def _on_wake(self) -> None:
        self._wake.set()

    def _on_cancel(self, job: str) -> None:
        if (stopping := self._jobs.get(job)) is not None:
            stopping.set()

    def _on_end(self) -> None:
        self._ending.set()
        self._wake.set()

    def _on_open(self, model: str) -> None:
        def open_it() -> None:
            with suppress(DanqingError):
                self._session.painter(model)
            self._send("open", self._session.open_models())

        self._openings.put(open_it)

    def _on_words(self, question: int, words: str) -> None:
        self._questions.put(lambda: self._send("answer", question, self._meaning.of_words(words)))

    def _on_file(self, question: int, path: Path) -> None:
        self._questions.put(lambda: self._send("answer", question, self._meaning.of_file(path)))

    def _answer(self, questions: SimpleQueue[Callable[[], None]]) -> None:
        """Answer the server's questions while a job runs."""
        while True:
            question = questions.get()
            try:
                question()
            except Exception:
                log.exception("a question was not answered")

    def _send(self, kind: str, *values: object) -> None:
        with self._send_lock, suppress(OSError):  # `_listen` notices a closed pipe too
            self._connection.send((kind, *values))


def _session(options: WorkerOptions, places: Mapping[str, Any]) -> NamedSession:
    """The session of a worker.

    places: the folders that its requests may name.
    """
    chosen = {"device": options.device, "dtype": options.dtype, "backend": options.backend, **places}
    return NamedSession(**chosen) if options.rows == 1 else ThroughputSession(rows=options.rows, **chosen)


def _plain(error: Exception) -> Exception:
    """Errors of full memory and full disks in one form, whatever library raised them."""
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return MemoryError(text)
    if "disk is full" in text or "No space left" in text:
        return StorageFull("the disk is full: make room, then ask again")
    return error
