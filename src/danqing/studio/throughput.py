"""A session that does several requests at once, and batches their network calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, local
from typing import Any

from danqing.apps import App, NamedSession
from danqing.core.painter import Painter
from danqing.diffusion.painter import DiffusionPainter
from danqing.execution.engine import EngineThread
from danqing.execution.shared import SharedPainter


class Gate:
    """A lock that many threads may share, or one hold alone. A thread that waits to be alone goes first."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._inside, self._alone, self._waiting = 0, False, 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold the lock together with others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._alone and not self._inside)
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


class ThroughputSession(NamedSession):
    """A session in which plain painting requests share network calls; all other requests run alone.

    rows: most rows of the network in one call.
    """

    def __init__(self, *, rows: int, **options: Any) -> None:
        super().__init__(**options)
        self._engine, self._gate, self._thread = EngineThread(rows), Gate(), local()

    def as_user(self, user: str) -> None:
        """Set the user of this thread's next requests, for fairness."""
        self._thread.user = user

    def painter(self, model: str) -> Painter:
        """Open a painter, see `Session.painter`.

        In a request that shares network calls it is a `SharedPainter`.
        """
        painter = super().painter(model)
        if getattr(self._thread, "shares", False):
            assert isinstance(painter, DiffusionPainter)
            return SharedPainter.of(painter, self._engine, lambda: getattr(self._thread, "user", ""))
        return painter

    @contextmanager
    def _turn(self, app: App[Any, Any], inputs: Any) -> Iterator[None]:
        if getattr(self._thread, "inside", False):  # an app that runs another app holds the lock already
            yield
            return
        shares = self._can_share(app, inputs)
        with self._gate.together() if shares else self._gate.alone():
            self._thread.inside, self._thread.shares = True, shares
            try:
                yield
            finally:
                self._thread.inside = self._thread.shares = False

    def _can_share(self, app: App[Any, Any], inputs: Any) -> bool:
        """Whether a request paints from a prompt alone and does not change the network."""
        if app.name != "paint":
            return False
        briefs = [single.brief for single in inputs.expanded_briefs]
        special = (
            brief.adapters
            or brief.fast
            or brief.tile
            or brief.vae
            or brief.refiner
            or brief.control
            or brief.ip_image
            or brief.cache_interval > 1
            for brief in briefs
        )
        plain = not any(special)
        # painters of other classes do not step through `network_calls`
        return plain and type(super().painter(inputs.model)) is DiffusionPainter
