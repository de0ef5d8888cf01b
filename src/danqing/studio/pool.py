"""The worker processes of a studio: starts them, reads their messages, restarts them when they die."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from danqing.studio.frames import Frame
from danqing.studio.ids import new_id
from danqing.studio.jobs import Queue
from danqing.studio.worker import WorkerOptions, work

if TYPE_CHECKING:
    from danqing.studio.vectors import Vector

_PATIENCE = 20.0  # seconds for which a worker may take to stop
_SOON = 5.0  # a worker that dies within so many seconds is restarted with growing delays
_PAUSE_MAX = 30.0

log = logging.getLogger(__name__)


class Pool:
    """One worker process for each of the options in `workers`, whose names are set here.

    on_change: called when the database has something new.
    frames: job id -> its last frame.
    """

    def __init__(self, workers: Sequence[WorkerOptions], queue: Queue) -> None:
        self._options, self._queue = workers, queue
        self.on_change: Callable[[], None] = lambda: None
        self.on_frame: Callable[[Frame], None] = lambda _: None
        self.frames: dict[str, Frame] = {}
        self._ending = Event()
        self._threads: list[Thread] = []
        self._workers: dict[str, _Worker] = {}
        self._questions: dict[int, Future[Any]] = {}
        self._numbers, self._lock = itertools.count(), Lock()

    def start(self) -> None:
        """Start all workers."""
        self._threads = [Thread(target=self._supervise, args=(options,)) for options in self._options]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop all workers within a step; unfinished jobs wait for the next start."""
        self._ending.set()
        self.tell("end")
        for worker in list(self._workers.values()):
            worker.process.join(_PATIENCE)
            worker.process.kill()
        for thread in self._threads:
            thread.join()

    def tell(self, kind: str, *values: object) -> None:
        """Send a message to all workers."""
        for worker in list(self._workers.values()):
            worker.send(kind, *values)

    def embed(self, kind: str, value: object, seconds: float = 3.0) -> Vector | None:
        """The embedding of "words" or of a "file", by any worker; None if none answers within `seconds`."""
        worker = next(iter(self._workers.values()), None)
        if worker is None:
            return None
        future: Future[Any] = Future()
        number = next(self._numbers)
        self._questions[number] = future
        try:
            worker.send(kind, number, value)
            answer: Vector | None = future.result(seconds)
            return answer
        except TimeoutError:
            return None
        finally:
            del self._questions[number]

    @property
    def workers(self) -> int:
        """The number of living workers."""
        return len(self._workers)

    @property
    def open_models(self) -> set[str]:
        """The models that are open in a worker."""
        return {model for worker in list(self._workers.values()) for model in worker.models}

    def kill(self, name: str) -> None:
        """Kill the worker called `name`; another one replaces it."""
        worker = self._workers.get(name)
        if worker is not None:
            worker.process.kill()

    def _supervise(self, options: WorkerOptions) -> None:
        pause = 0.0
        while not self._ending.wait(pause):
            start = time.monotonic()
            self._run(options)
            short = time.monotonic() - start < _SOON
            pause = min(max(2 * pause, 0.5), _PAUSE_MAX) if short else 0.0

    def _run(self, options: WorkerOptions) -> None:
        """Run one worker process until it dies."""
        worker = _Worker(replace(options, name=f"{options.device} {new_id()}"))
        self._workers[worker.name] = worker
        try:
            if self._ending.is_set():
                worker.send("end")
            worker.listen(self._hear)
        finally:
            del self._workers[worker.name]
            worker.process.join(_PATIENCE)
            worker.process.kill()
            worker.process.join()
        if (lost := self._queue.release(worker.name)) or not self._ending.is_set():
            log.warning("a worker died (code %s) with %d jobs", worker.process.exitcode, lost)
        self.on_change()

    def _hear(self, worker: _Worker, kind: str, values: Sequence[Any]) -> None:
        if kind == "frame":
            [frame] = values
            self.frames[frame.job] = frame
            self.on_frame(frame)
        elif kind == "answer":
            number, answer = values
            if (future := self._questions.get(number)) is not None:
                future.set_result(answer)
        elif kind == "open":
            [worker.models] = values
        else:
            self.on_change()


class _Worker:
    """A worker process and the server's end of its pipe.

    models: the models that are open in it.
    """

    def __init__(self, options: WorkerOptions) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.name, self.models = options.name, list[str]()
        self._lock = Lock()
        self.process: SpawnProcess = context.Process(target=work, args=(options, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, kind: str, *values: object) -> None:
        """Send a message; does nothing if the worker is dead."""
        try:
            with self._lock:
                self._connection.send((kind, *values))
        except OSError:
            log.debug("worker %s is gone", self.name)

    def listen(self, hear: Callable[[_Worker, str, Sequence[Any]], None]) -> None:
        """Pass the worker's messages to `hear` until it dies."""
        connection: Connection = self._connection
        try:
            while True:
                kind, *values = connection.recv()
                hear(self, kind, values)
        except (EOFError, OSError):
            connection.close()
