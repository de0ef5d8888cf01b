"""Paint pictures from words: the app, over any painter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

import danqing
from danqing.core.brief import Brief
from danqing.core.images import to_pil
from danqing.core.metadata import Info
from danqing.core.painter import Canvas, Painter
from danqing.core.picture import Picture
from danqing.core.seeds import Seeds
from danqing.diffusion.samplers import SAMPLERS

Watch = Callable[[Canvas], object]


def paint(
    brief: Brief | str, *, painter: Painter | None = None, watch: Watch | None = None, **fields: object
) -> list[Picture]:
    """Paint what `brief` (or a prompt with fields of a brief) asks for: one picture per seed.

    painter: who paints; None opens `brief.model`. watch: called with the canvas after every step; what it
    raises cancels the painting.

    Raises:
        BadBrief: it cannot be painted as asked. BadWeights: the model cannot be opened.
        NotFinite: the numbers broke down; nothing is returned.
    """
    brief = _gathered(brief, painter, fields)
    if brief.sampler is not None:
        SAMPLERS[brief.sampler]  # an unknown name is told before seconds of opening
    if painter is None:
        from danqing.families import open_painter  # a caller with a painter of its own needs no weights

        painter = open_painter(brief.model)
    brief = brief.settled(painter.card)
    assert brief.seed is not None
    start = time.perf_counter()
    conditioning = painter.condition(brief)
    canvas = painter.begin(brief, conditioning, Seeds.of(brief.seed, brief.count))
    for canvas in painter.steps(brief, conditioning, canvas):  # noqa: B020  the canvas moves along
        if watch:
            watch(canvas)
    native = painter.finish(canvas)
    # one by one: enlarging a sheet of 64 at once would need gigabytes
    enlarged = [row if brief.native else painter.enlarge(row) for row in torch.split(native, 1)]
    images = [image for row in enlarged for image in to_pil(row, brief.background)]
    info = Info(
        seconds=round((time.perf_counter() - start) / brief.count, 3),
        sampler=SAMPLERS[brief.sampler].title if brief.sampler else "",
        dropped=conditioning.dropped,
        versions={"danqing": danqing.__version__, "torch": torch.__version__},
    )
    return [Picture(image, brief.alone(k), info) for k, image in enumerate(images)]


def _gathered(brief: Brief | str, painter: Painter | None, fields: dict[str, object]) -> Brief:
    given: dict[str, Any] = (
        {"prompt": brief} if isinstance(brief, str) else brief.model_dump(exclude_unset=True)
    )
    if painter is not None:
        given.setdefault("model", painter.card.name)  # the picture tells who really painted it
    return Brief.of(**{**given, **fields})
