"""Prepares the next batch on the CPU while a GPU computes the present one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from danqing.training.objective import Batch


class Prefetcher:
    """Calls `draw` for the next step in another thread. The batches are the same as without it."""

    def __init__(self, draw: Callable[[int], Batch]) -> None:
        self._draw = draw
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._begun: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        """The batch of `step`. An exception of `draw` is raised here."""
        ready = self._begun.pop(step, None) or self._pool.submit(self._draw, step)
        self._begun = {step + 1: self._pool.submit(self._draw, step + 1)}
        return ready.result()

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(cancel_futures=True)
