"""Generates the pictures of one resolved brief, from input pictures if there are any, for all apps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import danqing
from danqing.apps._adapter_files import AdapterFiles
from danqing.apps._expand import ExpandedBrief, expand
from danqing.conditioning.parameters import MAPPING_VERSION
from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.images import to_pil
from danqing.core.metadata import Info
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.progress import Progress, ProgressCallback, no_progress, part_of
from danqing.core.seeds import InterpolatedSeeds, Seeds
from danqing.diffusion.network_changes import check_cache
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.samplers import SAMPLERS
from danqing.execution.backends import forget_routes, routes
from danqing.families.stable_diffusion.control import Control, with_controls
from danqing.families.stable_diffusion.image_prompts import ImagePrompt, with_image_prompts
from danqing.tuning.adapter import attach, with_trigger_words
from danqing.tuning.adapter_files import find_adapter
from danqing.tuning.adapter_names import merge_weights, prompt_name

_RIM = 32  # native pixels; more than the receptive field of an upscaler


@dataclass(frozen=True)
class GenerateOptions:
    """Options of generation that are not in a brief.

    painter: the painter to use.
    images: the input pictures.
    conditioning: a conditioning for one picture that replaces that of the prompt.
    adapter_files: name -> file of the adapters that a brief may name, besides the painter's own.
    batch: the batch size.
    controls: control maps with their networks.
    image_prompts: image prompts with their IP-Adapters.
    """

    painter: Painter
    images: InputImages = NO_IMAGES
    conditioning: Conditioning | None = None
    adapter_files: Mapping[str, Path] = field(default_factory=dict)
    batch: int = 1
    controls: tuple[Control, ...] = ()
    image_prompts: tuple[ImagePrompt, ...] = ()


def generate(
    brief: ResolvedBrief,
    options: GenerateOptions,
    *,
    expanded: Sequence[ExpandedBrief] | None = None,
    progress: ProgressCallback = no_progress,
) -> Iterator[Picture]:
    """Yield the pictures of a brief, each as soon as it is finished.

    expanded: the briefs of the single pictures, if `expand` was called before; None calls it.

    Raises:
        BadBrief: the painter does not support the brief.
    """
    check_cache(getattr(options.painter, "network", None), brief.cache_interval, options.painter.card.name)
    singles = expand(brief) if expanded is None else expanded
    groups = [list(group) for _, group in groupby(singles, key=lambda single: _words_key(single.brief))]
    batches = [batch for group in groups for batch in _batches(group, options.batch)]
    encoded: dict[str, Conditioning] = {}  # equal prompts are encoded once
    for number, batch in enumerate(batches):
        yield from _paint_batch(batch, options, encoded, part_of(progress, number, len(batches)))


def picture_of(brief: ResolvedBrief, painter: Painter, native: Tensor) -> Picture:
    """The `Picture` of a brief for one picture, upscaled unless `brief.native` is set.

    native: the finished pixels of the painter, [1 c h w] in [-1, 1].
    """
    pixels = native if brief.native else _upscale(native, painter, brief.tile)
    [image] = to_pil(pixels, brief.background)
    info = Info(
        sampler=SAMPLERS[brief.sampler].title if brief.sampler else "",
        mapping=MAPPING_VERSION,
        backend=routes(painter),
        versions={"danqing": danqing.__version__, "torch": torch.__version__},
    )
    return Picture(image, brief, info)


@contextmanager
def with_adapters(
    painter: Painter, brief: ResolvedBrief, files: Mapping[str, Path] | None = None
) -> Iterator[ResolvedBrief]:
    """A context with the brief's adapters attached to the painter; yields the brief with trigger words.

    files: name -> file of adapters, besides the painter's own.

    Raises:
        BadBrief: an adapter is unknown, or the painter supports none.
        BadWeights: an adapter is for another model.
    """
    own = painter.card.fast if brief.fast else None
    weights = {**({own.adapter: 1.0} if own and own.adapter else {}), **brief.adapters}
    if not weights:
        yield brief
        return
    if not isinstance(painter, DiffusionPainter):
        raise BadBrief(f"model {painter.card.name!r} takes no adapters: leave {', '.join(weights)} out")
    places = {**(files or {}), **painter.adapters}
    named_only = isinstance(files, AdapterFiles) and files.named_only
    adapters = {
        replace(find_adapter(name, places, named_only=named_only), name=prompt_name(name)): weight
        for name, weight in merge_weights(weights, places).items()
    }
    words = (brief.prompt, brief.negative_prompt)
    prompt, negative = (with_trigger_words(text, adapters) for text in words)
    with attach(painter, adapters):
        yield brief.model_copy(update={"prompt": prompt, "negative_prompt": negative})


def _batches(group: Sequence[ExpandedBrief], size: int) -> Iterator[Sequence[ExpandedBrief]]:
    return (group[k : k + size] for k in range(0, len(group), size))


def _paint_batch(
    batch: Sequence[ExpandedBrief],
    options: GenerateOptions,
    encoded: dict[str, Conditioning],
    progress: ProgressCallback,
) -> Iterator[Picture]:
    """The pictures of briefs that differ only in their seeds."""
    start, painter, first = time.perf_counter(), options.painter, batch[0].brief
    forget_routes(painter)
    with with_adapters(painter, first, options.adapter_files) as brief:
        key = _words_key(brief)
        if key not in encoded:
            encoded[key] = options.conditioning or painter.condition(brief, options.images)
        prompted, words = with_image_prompts(painter, options.image_prompts, brief, encoded[key])
        controlled = with_controls(prompted, options.controls, brief, words)
        native = _native(controlled, brief, words, _seeds(batch), progress)
    seconds = (time.perf_counter() - start) / len(batch)
    for single, pixels in zip(batch, native, strict=True):
        start = time.perf_counter()
        picture = picture_of(single.signed, painter, pixels)
        facts = {
            "chosen": single.chosen,
            "dropped": encoded[key].dropped,
            "seconds": round(seconds + time.perf_counter() - start, 3),
        }
        yield replace(picture, info=picture.info.model_copy(update=facts))


def _words_key(brief: ResolvedBrief) -> str:
    return brief.model_dump_json(exclude={"variation_seed" if brief.variation else "seed"})


def _seeds(batch: Sequence[ExpandedBrief]) -> Seeds:
    first, numbers = batch[0].brief, [single.brief.seeds[0] for single in batch]
    return InterpolatedSeeds(first.seed, numbers, first.variation) if first.variation else Seeds(numbers)


def _native(
    painter: Painter,
    brief: ResolvedBrief,
    conditioning: Conditioning,
    seeds: Seeds,
    progress: ProgressCallback,
) -> list[Tensor]:
    """The finished pictures of these seeds, each [1 c h w] in [-1, 1] at native size."""
    canvas = painter.begin(brief, conditioning, seeds)
    for canvas in painter.steps(brief, conditioning, canvas):  # noqa: B020  the canvas moves along
        progress(step_progress(painter, canvas))
    return list(torch.split(painter.finish(canvas), 1))


def step_progress(painter: Painter, canvas: Canvas) -> Progress:
    """The progress of a canvas, with a preview."""
    return Progress(canvas.step, canvas.of, preview=partial(painter.preview, canvas))


def _upscale(pixels: Tensor, painter: Painter, tile: bool) -> Tensor:
    if not tile:
        return painter.upscale(pixels)
    rim = min(_RIM, *pixels.shape[-2:])
    large = painter.upscale(F.pad(pixels, (rim,) * 4, mode="circular"))
    edge = rim * painter.card.scale
    return large[..., edge:-edge, edge:-edge]
