"""Slowing down whoever guesses."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from threading import Lock

_MINUTE = 60.0
_KEPT_MAX = 10_000  # keys; the oldest are forgotten


class LoginAttempts:
    """Failures of the last minute, by who failed."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = Lock()

    def begin(self, key: str, most: int) -> bool:
        """Note a try of `key`; False where there were `most` in the last minute: it may not be made."""
        now = time.monotonic()
        with self._lock:
            times = self._times.setdefault(key, deque())
            self._times.move_to_end(key)
            while times and now - times[0] > _MINUTE:
                times.popleft()
            if len(times) >= most:
                return False
            times.append(now)
            if len(self._times) > _KEPT_MAX:
                self._times.popitem(last=False)
            return True

    def forget(self, key: str) -> None:
        """A try has succeeded."""
        with self._lock:
            self._times.pop(key, None)
