"""Estimates time, memory and disk space of a video, from two steps and one unfinished frame."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from torch import Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.needs import Needs, peak_memory, try_step
from danqing.core.painter import NO_IMAGES, InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.seeds import Seeds


def film_needs(
    painter: Painter, brief: ResolvedBrief, start: Tensor | None, finish: Callable[[Tensor], Picture], n: int
) -> Needs:
    """What n further frames need. Random generators of the caller do not advance.

    brief: the brief of a frame that redraws the one before.
    start: the pixels [1 c h w] from which the first of them starts; None for a prompt alone.
    finish: pixels of the painter -> the finished frame.
    """
    alone = brief.model_copy(update={"image": None, "strength": None}) if start is None else brief
    conditioning = painter.condition(alone, NO_IMAGES if start is None else InputImages(image=start))
    canvas, step = try_step(painter, alone, conditioning, 1)
    begin = perf_counter()
    native = painter.finish(canvas)
    frame = finish(native)
    size = len(frame.encode())
    conditioning = painter.condition(brief, InputImages(image=native))
    over = painter.begin(brief, conditioning, Seeds.of(brief.seed, 1))
    seconds = (canvas.of + (n - 1) * over.of) * step + n * (perf_counter() - begin)
    return Needs(seconds, peak_memory(canvas.state.device), 2 * n * size)
