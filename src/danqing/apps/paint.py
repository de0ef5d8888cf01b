"""Paint pictures from words: the app, over any painter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

import danqing
from danqing.conditioning.parameters import MAPPING_VERSION
from danqing.conditioning.prompt import spoken
from danqing.conditioning.wildcards import choose
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.images import to_pil
from danqing.core.metadata import Info
from danqing.core.painter import Canvas, Conditioning, Painter
from danqing.core.picture import Picture
from danqing.core.seeds import Seeds
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
    brief = brief.settled(painter.card)
    told = [spoken(brief.alone(k)) for k in range(brief.count)]
    start = time.perf_counter()
    sittings = _sittings(told, painter, batch)
    native = _native(sittings, painter, watch)
    # one by one: enlarging a sheet of 64 at once would need gigabytes
    enlarged = (row if brief.native else painter.enlarge(row) for row in native)
    images = [image for row in enlarged for image in to_pil(row, brief.background)]
    info = Info(
        seconds=round((time.perf_counter() - start) / brief.count, 3),
        sampler=SAMPLERS[brief.sampler].title if brief.sampler else "",
        mapping=MAPPING_VERSION,
        versions={"danqing": danqing.__version__, "torch": torch.__version__},
    )
    dropped = [sitting.words.dropped for sitting in sittings for _ in sitting.seeds.seeds]
    return [
        Picture(image, _signed(brief.alone(k), told[k]), _informed(info, brief.alone(k), dropped[k]))
        for k, image in enumerate(images)
    ]


@dataclass(frozen=True)
class _Sitting:
    """Pictures that go through the network at once, as they are told the same words."""

    brief: Brief
    words: Conditioning
    seeds: Seeds


def _sittings(told: Sequence[Brief], painter: Painter, batch: int) -> list[_Sitting]:
    """All pictures in the order of their seeds, `batch` at a time; the same words are encoded once."""
    encoded: dict[str, Conditioning] = {}
    made = []
    for key, alike in groupby(told, key=_key):
        briefs = list(alike)
        if key not in encoded:
            encoded[key] = painter.condition(briefs[0])
        seeds = [brief.seed for brief in briefs if brief.seed is not None]
        parts = [Seeds(seeds[k : k + batch]) for k in range(0, len(seeds), batch)]
        made += [_Sitting(briefs[0], encoded[key], part) for part in parts]
    return made


def _key(brief: Brief) -> str:
    return brief.model_dump_json(exclude={"seed"})


def _native(sittings: Sequence[_Sitting], painter: Painter, watch: Watch | None) -> Iterator[Tensor]:
    """The finished pictures in the order of their seeds, each [1 c h w] in [-1, 1] at native size."""
    for done, sitting in enumerate(sittings):
        canvas = painter.begin(sitting.brief, sitting.words, sitting.seeds)
        for canvas in painter.steps(sitting.brief, sitting.words, canvas):  # noqa: B020  the canvas moves along
            if watch:
                overall = done * canvas.of + canvas.step
                watch(replace(canvas, step=overall, of=len(sittings) * canvas.of))
        yield from torch.split(painter.finish(canvas), 1)


def _signed(brief: Brief, told: Brief) -> Brief:
    """The brief that paints the picture again: with its wildcards, and with the adapters it names."""
    return brief.model_copy(update={"adapters": told.adapters})


def _informed(info: Info, brief: Brief, dropped: str) -> Info:
    assert brief.seed is not None, "settle the brief first"
    words = choose(brief.prompt, brief.seed)
    return info.model_copy(update={"dropped": dropped, "chosen": "" if words == brief.prompt else words})


def _gathered(brief: Brief | str, painter: Painter | None, fields: dict[str, object]) -> Brief:
    given: dict[str, Any] = (
        {"prompt": brief} if isinstance(brief, str) else brief.model_dump(exclude_unset=True)
    )
    if painter is not None:
        given.setdefault("model", painter.card.name)  # the picture tells who really painted it
    return Brief.of(**{**given, **fields})
