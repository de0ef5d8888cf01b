"""A painter whose steps are computed by an engine, together with those of others."""

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
    """A painter that several threads paint with at once, one request in each.

    An engine answers the network; all else is done by one thread at a time, since on a CPU two would only
    be in each other's way. Adapters and tiles change the network, so nobody else may paint meanwhile.

    engine: what computes the steps.
    user: whose request the calling thread does.
    """

    engine: EngineThread | None = None
    user: Callable[[], str] = str

    @classmethod
    def of(cls, painter: DiffusionPainter, engine: EngineThread, user: Callable[[], str]) -> Self:
        """The painter, computed by an engine."""
        own = {field.name: getattr(painter, field.name) for field in fields(DiffusionPainter)}
        return cls(**own, engine=engine, user=user)

    @property
    def is_batched(self) -> bool:
        """Whether requests share calls of the network, so that their numbers differ in the last bits."""
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
