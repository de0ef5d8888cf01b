"""The pictures of one settled brief, from given pictures if there are any: what all painting apps share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import danqing
from danqing.conditioning.parameters import MAPPING_VERSION
from danqing.conditioning.prompt import spoken
from danqing.conditioning.wildcards import choose
from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.images import to_pil
from danqing.core.metadata import Info
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.seeds import Between, Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.samplers import SAMPLERS
from danqing.tuning.adapter import attached
from danqing.tuning.adapter import spoken as by_its_trigger
from danqing.tuning.adapter_files import find_adapter

Watch = Callable[[Canvas | str], object]
"""Called with the canvas after every step, or with a line about what else is done; may raise to cancel."""

_RIM = 32  # native pixels; more than an upscaler's convolutions reach


@dataclass(frozen=True)
class Batch:
    """Pictures that are told the same words; `parts` go through the network at once."""

    brief: ResolvedBrief
    parts: tuple[Seeds, ...]


def painted(
    brief: ResolvedBrief,
    painter: Painter,
    given: InputImages = NO_IMAGES,
    *,
    words: Conditioning | None = None,
    watch: Watch | None = None,
    batch: int = 1,
) -> list[Picture]:
    """What a settled brief asks of an open painter; `words` instead of those of its prompt. See `paint`."""
    start = time.perf_counter()
    told = [spoken(brief.alone(k)) for k in range(brief.count)]
    batches = _batches(told, batch)
    counted = _counted(watch, sum(len(batch.parts) for batch in batches))
    encoded: dict[str, Conditioning] = {}  # the same words are encoded once
    native: list[Tensor] = []
    dropped: list[str] = []
    for group in batches:
        with with_adapters(painter, group.brief) as dressed:
            said = words or encoded.get(_key(dressed)) or painter.condition(dressed, given)
            encoded[_key(dressed)] = said
            for seeds in group.parts:
                native += _native(painter, dressed, said, seeds, counted)
                dropped += [said.dropped] * len(seeds)
    pictures = pictures_of(brief, painter, native)
    seconds = round((time.perf_counter() - start) / brief.count, 3)
    return [
        _signed(picture, told[k], {"dropped": dropped[k], "seconds": seconds})
        for k, picture in enumerate(pictures)
    ]


def pictures_of(brief: ResolvedBrief, painter: Painter, native: Sequence[Tensor]) -> list[Picture]:
    """The finished pixels [1 c h w] of a brief's pictures, enlarged if it asks for that, one by one.

    All at once a sheet of 64 would need gigabytes.
    """
    enlarged = (row if brief.native else _enlarged(row, painter, brief.tile) for row in native)
    images = [image for row in enlarged for image in to_pil(row, brief.background)]
    info = Info(
        sampler=SAMPLERS[brief.sampler].title if brief.sampler else "",
        mapping=MAPPING_VERSION,
        versions={"danqing": danqing.__version__, "torch": torch.__version__},
    )
    return [Picture(image, brief.alone(k), info) for k, image in enumerate(images)]


def _batches(told: Sequence[ResolvedBrief], batch: int) -> list[Batch]:
    """All pictures in the order of their seeds, at most `batch` at a time."""
    made = []
    for _, alike in groupby(told, key=_key):
        briefs = list(alike)
        numbers = [brief.seeds[0] for brief in briefs]
        parts = (numbers[k : k + batch] for k in range(0, len(numbers), batch))
        made.append(Batch(briefs[0], tuple(_seeds(briefs[0], part) for part in parts)))
    return made


def _key(brief: ResolvedBrief) -> str:
    return brief.model_dump_json(exclude={"variation_seed" if brief.variation else "seed"})


def _seeds(brief: ResolvedBrief, numbers: Sequence[int]) -> Seeds:
    return Between(brief.seed, numbers, brief.variation) if brief.variation else Seeds(numbers)


@contextmanager
def with_adapters(painter: Painter, brief: ResolvedBrief) -> Iterator[ResolvedBrief]:
    """The painter with the brief's adapters on, and the brief in the words that they were learned by.

    Raises:
        BadBrief: an unknown adapter, or a painter that takes none. BadWeights: one for another model.
    """
    own = painter.card.fast if brief.fast else None
    wanted = {**({own.adapter: 1.0} if own and own.adapter else {}), **brief.adapters}
    if not wanted:
        yield brief
        return
    if not isinstance(painter, DiffusionPainter):
        raise BadBrief(f"model {painter.card.name!r} takes no adapters: leave {', '.join(wanted)} out")
    adapters = {
        replace(find_adapter(name, painter.adapters), name=name): weight for name, weight in wanted.items()
    }
    with attached(painter, adapters):
        yield brief.model_copy(update={"prompt": by_its_trigger(brief.prompt, adapters)})


def _native(
    painter: Painter, brief: ResolvedBrief, words: Conditioning, seeds: Seeds, watch: Watch
) -> list[Tensor]:
    """The finished pictures of these seeds, each [1 c h w] in [-1, 1] at native size."""
    canvas = painter.begin(brief, words, seeds)
    for canvas in painter.steps(brief, words, canvas):  # noqa: B020  the canvas moves along
        watch(canvas)
    return list(torch.split(painter.finish(canvas), 1))


def _counted(watch: Watch | None, parts: int) -> Watch:
    """`watch` with steps counted over all parts, each of which takes as many."""
    done = 0

    def overall(canvas: Canvas | str) -> object:
        nonlocal done
        if watch is None or isinstance(canvas, str):
            return watch and watch(canvas)
        moved = replace(canvas, step=done * canvas.of + canvas.step, of=parts * canvas.of)
        done += canvas.step == canvas.of
        return watch(moved)

    return overall


def _enlarged(pixels: Tensor, painter: Painter, tile: bool) -> Tensor:
    if not tile:
        return painter.enlarge(pixels)
    rim = min(_RIM, *pixels.shape[-2:])
    large = painter.enlarge(F.pad(pixels, (rim,) * 4, mode="circular"))
    edge = rim * painter.card.scale
    return large[..., edge:-edge, edge:-edge]


def _signed(picture: Picture, told: ResolvedBrief, facts: dict[str, object]) -> Picture:
    """The picture with its wildcard text, the adapters it names, and what was chosen for it."""
    brief = picture.brief.model_copy(update={"adapters": told.adapters})
    words = choose(brief.prompt, brief.seed)
    told_of = {**facts, "chosen": "" if words == brief.prompt else words}
    return replace(picture, brief=brief, info=picture.info.model_copy(update=told_of))
