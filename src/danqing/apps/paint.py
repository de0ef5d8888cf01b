"""Paint pictures from words: the app, over any painter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import danqing
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.images import to_pil
from danqing.core.metadata import Info
from danqing.core.painter import NOTHING, Canvas, Conditioning, Given, Painter
from danqing.core.picture import Picture
from danqing.core.seeds import Between, Seeds
from danqing.diffusion.samplers import SAMPLERS

Watch = Callable[[Canvas], object]


def paint(
    brief: Brief | str,
    *,
    painter: Painter | None = None,
    watch: Watch | None = None,
    batch: int = 1,
    **fields: object,
) -> list[Picture]:
    """Paint what `brief` (or a prompt with fields of a brief) asks for: one picture per seed.

    painter: who paints; None opens `brief.model`. watch: called with the canvas after every step, its `step`
    and `of` counted over all pictures; what it raises cancels the painting.

    batch: how many pictures go through the network at once. With 1, a picture is the same byte for byte in
    any grid and alone. More is faster on a large accelerator, at the price of memory and of that promise:
    kernels round by batch size, so the picture painted alone may differ by one in a few of its bytes.

    Raises:
        BadBrief: it cannot be painted as asked. BadWeights: the model cannot be opened.
        NotFinite: the numbers broke down; nothing is returned.
    """
    if batch < 1:
        raise BadBrief(f"batch {batch} is too small: use 1 or more")
    brief = _gathered(brief, painter, fields)
    if brief.sampler is not None:
        SAMPLERS[brief.sampler]  # an unknown name is told before seconds of opening
    if painter is None:
        from danqing.families import open_painter  # a caller with a painter of its own needs no weights

        painter = open_painter(brief.model)
    return painted(brief.settled(painter.card), painter, watch=watch, batch=batch)


def painted(
    brief: Brief,
    painter: Painter,
    given: Given = NOTHING,
    *,
    watch: Watch | None = None,
    batch: int = 1,
) -> list[Picture]:
    """What a settled brief asks of an open painter, from given pictures if there are any. See `paint`."""
    start = time.perf_counter()
    conditioning = painter.condition(brief, given)
    native = _native(brief, painter, conditioning, watch, batch)
    # one by one: enlarging a sheet of 64 at once would need gigabytes
    enlarged = (row if brief.native else _enlarged(row, painter, brief.tile) for row in native)
    images = [image for row in enlarged for image in to_pil(row, brief.background)]
    info = Info(
        seconds=round((time.perf_counter() - start) / brief.count, 3),
        sampler=SAMPLERS[brief.sampler].title if brief.sampler else "",
        dropped=conditioning.dropped,
        versions={"danqing": danqing.__version__, "torch": torch.__version__},
    )
    return [Picture(image, brief.alone(k), info) for k, image in enumerate(images)]


def _native(
    brief: Brief, painter: Painter, conditioning: Conditioning, watch: Watch | None, batch: int
) -> Iterator[Tensor]:
    """The finished pictures in the order of their seeds, each [1 c h w] in [-1, 1] at native size."""
    parts = [_seeds(brief, brief.seeds[k : k + batch]) for k in range(0, brief.count, batch)]
    for done, part in enumerate(parts):
        canvas = painter.begin(brief, conditioning, part)
        for canvas in painter.steps(brief, conditioning, canvas):  # noqa: B020  the canvas moves along
            if watch:
                overall = done * canvas.of + canvas.step
                watch(replace(canvas, step=overall, of=len(parts) * canvas.of))
        yield from torch.split(painter.finish(canvas), 1)


def _seeds(brief: Brief, part: range) -> Seeds:
    assert brief.seed is not None, "settle the brief first"
    return Between(brief.seed, part, brief.variation) if brief.variation else Seeds(part)


_RIM = 32  # native pixels; more than an upscaler's convolutions reach


def _enlarged(pixels: Tensor, painter: Painter, tile: bool) -> Tensor:
    if not tile:
        return painter.enlarge(pixels)
    rim = min(_RIM, *pixels.shape[-2:])
    large = painter.enlarge(F.pad(pixels, (rim,) * 4, mode="circular"))
    edge = rim * painter.card.scale
    return large[..., edge:-edge, edge:-edge]


def _gathered(brief: Brief | str, painter: Painter | None, fields: dict[str, object]) -> Brief:
    given: dict[str, Any] = (
        {"prompt": brief} if isinstance(brief, str) else brief.model_dump(exclude_unset=True)
    )
    if painter is not None:
        given.setdefault("model", painter.card.name)  # the picture tells who really painted it
    return Brief.of(**{**given, **fields})
