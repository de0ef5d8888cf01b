"""Batches drawn on the CPU while a GPU learns from the one before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from danqing.training.objective import Batch


class Prefetcher:
    """`draw` of a step, with that of the next one begun in another thread. The batches are the same."""

    def __init__(self, draw: Callable[[int], Batch]) -> None:
        self._draw = draw
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._begun: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        """The batch of `step`; what it raises is raised here."""
        ready = self._begun.pop(step, None) or self._pool.submit(self._draw, step)
        self._begun = {step + 1: self._pool.submit(self._draw, step + 1)}
        return ready.result()

    def close(self) -> None:
        """Draw no more."""
        self._pool.shutdown(cancel_futures=True)
