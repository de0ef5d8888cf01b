"""Many requests at once: the network calls of several go through the network together, step by step.

A request is a coroutine that yields network calls (`DiffusionPainter.calls`). It joins whenever it comes and
leaves when it is done or cancelled, at any step; the others never wait for it. Which samplers, steps,
guidance, words and seeds they have does not matter: a batch is made of calls of the same network at the same
size. This is the continuous batching of servers of language models (Orca, Yu et al., OSDI 2022).

Turns are fair by start-time fair queueing (Goyal et al., SIGCOMM 1996): whoever has used the fewest rows of
the network is next, first among users, then among the requests of one. So a short request is not behind a
long one, nor a person behind one who asks for much.

Numbers of a batch of several differ in their last bits from those of one alone, as sums are taken in another
order. With `rows` of 1 every request is computed as if it were alone, byte for byte.
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
    """What an engine does for someone.

    calls: its coroutine.
    user: whose it is.
    on_event: gets what the coroutine yields besides calls; what it raises ends the request.
    on_end: called once, with what ended it; None where it is done or cancelled.
    """

    calls: CallStream[S]
    user: str = ""
    on_event: Callable[[S], None] = lambda _: None
    on_end: Callable[[BaseException | None], None] = lambda _: None
    cancelled: bool = False
    used: float = 0.0
    call: NetworkCall | None = field(default=None, init=False)

    def cancel(self) -> None:
        """End it before its next call of the network."""
        self.cancelled = True


class Engine:
    """Answers the network calls of many requests. `round` does the work; see `EngineThread`.

    rows: at most so many in one call of a network, but always one whole request; 1 keeps requests apart.
    """

    def __init__(self, rows: int = 16) -> None:
        self.rows = rows
        self.rounds = 0  # calls of networks so far
        self._requests: list[EngineRequest[object]] = []
        self._used: dict[str, float] = {}  # rows by user

    def add(self, request: EngineRequest[S]) -> None:
        """Let a request join; it computes what stands before its first call of the network."""
        least = min((self._used[other.user] for other in self._requests), default=0.0)
        # who comes anew begins where the others are: an absence earns nothing
        self._used[request.user] = max(least, self._used.get(request.user, 0.0))
        request.used = min((other.used for other in self._of(request.user)), default=0.0)
        self._requests.append(request)  # type: ignore[arg-type]
        self._advance(request, None)

    def round(self) -> bool:
        """One call of a network, for as many requests as fit. False where there was nothing to do."""
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
        """The first in line, and those behind it that can share its call."""
        first, *others = waiting
        batch, kind, rows = [first], _kind(_call(first)), len(_call(first).x)
        for request in others:
            call = _call(request)
            if rows + len(call.x) <= self.rows and _kind(call) == kind:
                batch.append(request)
                rows += len(call.x)
        return batch

    def _outputs(self, batch: Sequence[EngineRequest[object]]) -> list[Tensor | BaseException]:
        """What the network answers each of them; one that it fails for alone gets the error."""
        calls = [_call(request) for request in batch]
        try:
            with torch.no_grad():
                output = _merge(calls).output()
            return list(torch.split(output, [len(call.x) for call in calls]))
        except Exception as error:  # a batch that is too large for the memory, or one that is at fault
            if len(batch) == 1:
                return [error]
            return [output for request in batch for output in self._outputs([request])]

    def _advance(self, request: EngineRequest[S], output: Tensor | None) -> None:
        """Send the output to the coroutine, and let it go on to its next call, or to its end."""
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
    """What two calls must share to be one."""
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
    """An engine in a thread of its own, for threads that wait for their requests.

    computing: held while it computes; others that compute take it for so long.
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
        """What a coroutine yields besides calls, as it comes. Close the iterator to cancel.

        Raises:
            Exception: what the coroutine raises, or the network.
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
        """End when all requests have ended."""
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
