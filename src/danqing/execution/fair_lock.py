"""A lock that is given in the order in which threads asked for it."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Self


class FairLock:
    """For threads that take it again at once, which would leave others waiting at an ordinary lock."""

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
        turn.acquire()  # until the one before hands it over
        return self

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._turns:
                self._turns.popleft().release()
            else:
                self._held = False
