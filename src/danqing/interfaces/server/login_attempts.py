"""Limits the rate of failed logins."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from threading import Lock

_MINUTE = 60.0
_KEPT_MAX = 10_000  # most keys to remember; the oldest are dropped


class LoginAttempts:
    """Login attempts of the last minute, by key (name or address)."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = Lock()

    def begin(self, key: str, most: int) -> bool:
        """Record an attempt of `key`. False if it had `most` in the last minute, and must be refused."""
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
        """Forget the attempts of `key`, after a successful one."""
        with self._lock:
            self._times.pop(key, None)
