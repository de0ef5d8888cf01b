"""Treats signals that stop a program like Ctrl-C: finished results stay, and files are complete."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")  # SIGHUP does not exist on Windows, SIGBREAK only there


class StopSignals:
    """The signal that stopped a command.

    number: its number; None so far.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    @contextmanager
    def handle(self) -> Iterator[None]:
        """A context in which these signals raise KeyboardInterrupt; at its end the old handlers return."""
        signals = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
        before = {each: signal.getsignal(each) for each in signals}
        for each in signals:
            if before[each] is not signal.SIG_IGN:  # nohup sets the signal to be ignored
                signal.signal(each, self._stop)
        try:
            yield
        finally:
            _restore(before)

    def exit_code(self, code: int) -> int:
        """The exit code after a signal: 130 after Ctrl-C, else 128 + its number, as in shells.

        Others stay.
        """
        return 128 + self.number if code == 130 and self.number is not None else code

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        raise KeyboardInterrupt


@contextmanager
def delayed_stop() -> Iterator[None]:
    """A context that delays Ctrl-C and the other signals to its end, for example while a picture is saved."""
    # handlers can be set only in the main thread
    if threading.current_thread() is not threading.main_thread():
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
        # None means that the handler was not set from Python, as in a program that embeds it
        signal.signal(each, signal.SIG_DFL if handler is None else handler)
