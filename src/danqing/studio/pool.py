"""The workers of a studio: started, listened to, begun anew when they die."""

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

_PATIENCE = 20.0  # seconds for a worker to end by itself
_SOON = 5.0  # a worker that dies within so many seconds is begun anew later and later
_PAUSE_MAX = 30.0

log = logging.getLogger(__name__)


class Pool:
    """One worker for each of `workers`, which have no names yet.

    on_change: called when the database has something new. frames: job -> the last frame of it.
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
        """Begin to work."""
        self._threads = [Thread(target=self._supervise, args=(options,)) for options in self._options]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let all workers end within a step; what they were at waits for the next start."""
        self._ending.set()
        self.tell("end")
        for worker in list(self._workers.values()):
            worker.process.join(_PATIENCE)
            worker.process.kill()
        for thread in self._threads:
            thread.join()

    def tell(self, kind: str, *values: object) -> None:
        """Say something to all workers."""
        for worker in list(self._workers.values()):
            worker.send(kind, *values)

    def embed(self, kind: str, value: object, seconds: float = 3.0) -> Vector | None:
        """The embedding of "words" or of a "file"; None where no worker tells it in time."""
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
        """How many workers are alive."""
        return len(self._workers)

    @property
    def open_models(self) -> set[str]:
        """The models that are open in a worker."""
        return {model for worker in list(self._workers.values()) for model in worker.models}

    def kill(self, name: str) -> None:
        """End the worker called `name` at once; another takes its place."""
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
        """One worker from birth to death."""
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
    """A process and our end of its pipe. models: those that are open."""

    def __init__(self, options: WorkerOptions) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.name, self.models = options.name, list[str]()
        self._lock = Lock()
        self.process: SpawnProcess = context.Process(target=work, args=(options, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, kind: str, *values: object) -> None:
        """Say something; one that is dead does not hear it."""
        try:
            with self._lock:
                self._connection.send((kind, *values))
        except OSError:
            log.debug("worker %s is gone", self.name)

    def listen(self, hear: Callable[[_Worker, str, Sequence[Any]], None]) -> None:
        """Hear what the worker says until it dies."""
        connection: Connection = self._connection
        try:
            while True:
                kind, *values = connection.recv()
                hear(self, kind, values)
        except (EOFError, OSError):
            connection.close()
