"""Signals that ask a program to stop, treated as Ctrl-C is: what is finished stays, and files are whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")  # the second does not exist on Windows, the third only there


class StopSignals:
    """The signal that stopped a command. number: its number, None so far."""

    def __init__(self) -> None:
        self.number: int | None = None

    @contextmanager
    def handle(self) -> Iterator[None]:
        """Raise KeyboardInterrupt when one of them comes; the handlers before come back afterwards."""
        signals = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
        before = {each: signal.getsignal(each) for each in signals}
        for each in signals:
            if before[each] is not signal.SIG_IGN:  # as nohup asks
                signal.signal(each, self._stop)
        try:
            yield
        finally:
            _restore(before)

    def exit_code(self, code: int) -> int:
        """130 after Ctrl-C, or 128 and the number of the signal, as shells do; other codes stay."""
        return 128 + self.number if code == 130 and self.number is not None else code

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        raise KeyboardInterrupt


@contextmanager
def delayed_stop() -> Iterator[None]:
    """Let Ctrl-C and the other signals wait until a block is done, such as saving and counting a picture."""
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return
    signals = [getattr(signal, name) for name in ("SIGINT", *_NAMES) if hasattr(signal, name)]
    before = {each: signal.getsignal(each) for each in signals}
    waiting: list[int] = []
    for each in signals:
        if before[each] is not signal.SIG_IGN:
            signal.signal(each, lambda number, _frame: waiting.append(number))
    try:
        yield
    finally:
        _restore(before)
        if waiting:
            signal.raise_signal(waiting[0])


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for each, handler in handlers.items():
        # None is one that was not set in Python, as by a program that embeds it
        signal.signal(each, signal.SIG_DFL if handler is None else handler)
