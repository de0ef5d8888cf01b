"""A painter whose network calls run in an engine, batched with those of other requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Self

from torch import Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.diffusion.painter import DiffusionPainter
from danqing.execution.engine import EngineThread
from danqing.execution.fair_lock import FairLock


@dataclass(eq=False)
class SharedPainter(DiffusionPainter):
    """A painter for several threads at once, each with one request.

    An engine runs the network. All other work is done by one thread at a time, because two would only slow
    each other down on a CPU. Adapters and tiling change the network, so no other request may run meanwhile.

    engine: runs the network calls.
    user: returns the name of the user whose request runs in the calling thread.
    """

    engine: EngineThread | None = None
    user: Callable[[], str] = str

    @classmethod
    def of(cls, painter: DiffusionPainter, engine: EngineThread, user: Callable[[], str]) -> Self:
        """A copy of `painter` whose network calls run in `engine`."""
        own = {field.name: getattr(painter, field.name) for field in fields(DiffusionPainter)}
        return cls(**own, engine=engine, user=user)

    @property
    def is_batched(self) -> bool:
        """Whether requests share network calls, so that results may differ in their last bits."""
        assert self.engine is not None
        return self.engine.engine.rows > 1

    @property
    def _lock(self) -> FairLock:
        assert self.engine is not None
        return self.engine.computing

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:
        """See `Painter.condition`."""
        with self._lock:
            return super().condition(brief, images)

    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """See `Painter.steps`."""
        assert self.engine is not None
        yield from self.engine.stream(self.calls(brief, conditioning, canvas), self.user())

    def preview(self, canvas: Canvas) -> Tensor:
        """See `Painter.preview`."""
        with self._lock:
            return super().preview(canvas)

    def finish(self, canvas: Canvas) -> Tensor:
        """See `Painter.finish`."""
        with self._lock:
            return super().finish(canvas)

    def upscale(self, pixels: Tensor) -> Tensor:
        """See `Painter.upscale`."""
        with self._lock:
            return super().upscale(pixels)
