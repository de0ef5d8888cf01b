"""A first-in, first-out lock: threads get it in the order in which they wait for it."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Self


class FairLock:
    """A fair lock. With an ordinary lock, a thread that takes it again at once could keep others waiting."""

    def __init__(self) -> None:
        self._mutex, self._held = Lock(), False
        self._turns: deque[Lock] = deque()

    def __enter__(self) -> Self:
        with self._mutex:
            if not self._held:
                self._held = True
                return self
            turn = Lock()
            turn.acquire()
            self._turns.append(turn)
        turn.acquire()  # blocks until the previous holder releases it
        return self

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._turns:
                self._turns.popleft().release()
            else:
                self._held = False
