"""Continuous batching: network calls of several requests run as one batch, step by step.

A request is a coroutine that yields network calls (`DiffusionPainter.calls`). It can join and leave at any
step, and the others do not wait for it. Requests in a batch may differ in sampler, steps, guidance, prompt
and seed; their calls must be of the same network at the same size. Servers of language models batch in this
way (Orca, Yu et al., OSDI 2022).

The order is start-time fair queueing (Goyal et al., SIGCOMM 1996): the user who has used the fewest rows of
the network is next, and of this user the request which has used the fewest. So a short request does not wait
for a long one, and a user with few requests does not wait for one with many.

Results of a batch differ from those of a single request in their last bits, because sums are computed in
another order. If `rows` is 1, every request is computed alone, and its result is the same byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Generic, TypeVar

import torch
from torch import Tensor

from danqing.core.painter import Conditioning
from danqing.diffusion.guidance import NetworkCall
from danqing.diffusion.network_calls import CallStream
from danqing.execution.fair_lock import FairLock

S = TypeVar("S")


@dataclass(eq=False)
class EngineRequest(Generic[S]):
    """One request to an engine.

    calls: the coroutine of the request.
    user: the name of its user.
    on_event: called with each result that the coroutine yields; an exception in it ends the request.
    on_end: called once, with the exception that ended the request; None if it is done or cancelled.
    """

    calls: CallStream[S]
    user: str = ""
    on_event: Callable[[S], None] = lambda _: None
    on_end: Callable[[BaseException | None], None] = lambda _: None
    cancelled: bool = False
    used: float = 0.0
    call: NetworkCall | None = field(default=None, init=False)

    def cancel(self) -> None:
        """End the request before its next network call."""
        self.cancelled = True


class Engine:
    """Runs the network calls of many requests. `round` does the work; see `EngineThread`.

    rows: the most rows of one network call, but a call always has one whole request; 1 disables batching.
    """

    def __init__(self, rows: int = 16) -> None:
        self.rows = rows
        self.rounds = 0  # network calls so far
        self._requests: list[EngineRequest[object]] = []
        self._used: dict[str, float] = {}  # user -> rows used so far

    def add(self, request: EngineRequest[S]) -> None:
        """Add a request, and run it up to its first network call."""
        least = min((self._used[other.user] for other in self._requests), default=0.0)
        # a new user begins at the count of the others, so that absence gives no credit
        self._used[request.user] = max(least, self._used.get(request.user, 0.0))
        request.used = min((other.used for other in self._of(request.user)), default=0.0)
        self._requests.append(request)  # type: ignore[arg-type]
        self._advance(request, None)

    def round(self) -> bool:
        """Run one network call for as many requests as fit; False if there was no request."""
        for request in [request for request in self._requests if request.cancelled]:
            self._end(request, None)
        waiting = sorted(self._requests, key=lambda request: (self._used[request.user], request.used))
        if not waiting:
            self._used.clear()
            return False
        batch = self._batch(waiting)
        self.rounds += 1
        for request, output in zip(batch, self._outputs(batch), strict=True):
            rows = len(_call(request).x)
            self._used[request.user] += rows
            request.used += rows
            if isinstance(output, BaseException):
                self._end(request, output)
            else:
                self._advance(request, output)
        return True

    def __len__(self) -> int:
        return len(self._requests)

    def _of(self, user: str) -> list[EngineRequest[object]]:
        return [request for request in self._requests if request.user == user]

    def _batch(self, waiting: Sequence[EngineRequest[object]]) -> list[EngineRequest[object]]:
        """The first request in the queue, and the next ones that can share its network call."""
        first, *others = waiting
        batch, kind, rows = [first], _kind(_call(first)), len(_call(first).x)
        for request in others:
            call = _call(request)
            if rows + len(call.x) <= self.rows and _kind(call) == kind:
                batch.append(request)
                rows += len(call.x)
        return batch

    def _outputs(self, batch: Sequence[EngineRequest[object]]) -> list[Tensor | BaseException]:
        """The output for each request; a request whose call fails alone gets the exception."""
        calls = [_call(request) for request in batch]
        try:
            with torch.no_grad():
                output = _merge(calls).output()
            return list(torch.split(output, [len(call.x) for call in calls]))
        except Exception as error:  # the batch is too large for the memory, or one request is wrong
            if len(batch) == 1:
                return [error]
            return [output for request in batch for output in self._outputs([request])]

    def _advance(self, request: EngineRequest[S], output: Tensor | None) -> None:
        """Send the output to the coroutine, and run it up to its next network call or to its end."""
        try:
            while not isinstance(event := request.calls.send(output), NetworkCall):
                request.on_event(event)
                output = None
            request.call = event
        except StopIteration:
            self._end(request, None)
        except Exception as error:
            self._end(request, error)

    def _end(self, request: EngineRequest[S], error: BaseException | None) -> None:
        self._requests.remove(request)  # type: ignore[arg-type]
        request.calls.close()
        request.on_end(error)


def _call(request: EngineRequest[object]) -> NetworkCall:
    assert request.call is not None, "it waits for one"
    return request.call


def _kind(call: NetworkCall) -> tuple[object, ...]:
    """A key that is equal for two calls if they can run as one batch."""
    words = {name: value for name, value in vars(call.conditioning).items() if isinstance(value, Tensor)}
    shapes = sorted((name, value.shape[1:], value.dtype) for name, value in words.items() if name != "weight")
    return call.network, call.x.shape[1:], call.x.dtype, call.x.device, tuple(shapes)


def _merge(calls: Sequence[NetworkCall]) -> NetworkCall:
    if len(calls) == 1:
        return calls[0]
    return NetworkCall(
        calls[0].network,
        torch.cat([call.x for call in calls]),
        torch.cat([call.t for call in calls]),
        Conditioning.cat(*(call.conditioning for call in calls)),
    )


class EngineThread:
    """An engine in its own thread; other threads wait for the results of their requests.

    computing: the lock that the engine holds while it computes; other code takes it to compute.
    """

    def __init__(self, rows: int = 16) -> None:
        self.engine = Engine(rows)
        self.computing = FairLock()
        self._changed = Condition()
        self._coming: list[EngineRequest[object]] = []
        self._ending = False
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stream(self, calls: CallStream[S], user: str = "") -> Iterator[S]:
        """Run a coroutine, and yield its results as they come. Close the iterator to cancel.

        Raises:
            Exception: any exception of the coroutine or of the network.
        """
        events: SimpleQueue[tuple[bool, S | BaseException | None]] = SimpleQueue()
        request = EngineRequest(
            calls, user, lambda event: events.put((False, event)), lambda error: events.put((True, error))
        )
        with self._changed:
            self._coming.append(request)  # type: ignore[arg-type]
            self._changed.notify()
        try:
            while True:
                over, event = events.get()
                if over:
                    break
                yield event  # type: ignore[misc]
        finally:
            request.cancel()
        if isinstance(event, BaseException):
            raise event

    def close(self) -> None:
        """Wait until all requests have ended, then stop the thread."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._coming or self._ending or len(self.engine)):
                    self._changed.wait()
                coming, self._coming = self._coming, []
                if self._ending and not coming and not len(self.engine):
                    return
            with self.computing:
                for request in coming:
                    self.engine.add(request)
                self.engine.round()
