"""Checks whether a model opens, is complete, and paints what diffusers paints with the same weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.errors import BadBrief, BadWeights
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.families import open_painter
from danqing.nets.placement import first_not_finite

PROMPTS = ("a photo of a red apple on a table", "a watercolour of a lighthouse at dusk", "a cat, ink drawing")
_NEGATIVE, _SEED, _STEPS = "blurry", 7, 10


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    what: what was checked.
    result: the result, for the user.
    good: whether it is as it should be.
    """

    what: str
    result: str
    good: bool = True


def examine(place: Path, *, full: bool = False, device: str = "auto") -> Iterator[Finding]:
    """Check a model. Yields each finding as soon as it is known.

    full: also paint three prompts with danqing and with diffusers, with the same noise, and compare; takes
        minutes.

    Raises:
        BadWeights: the model does not open.
        BadBrief: it cannot be compared.
    """
    start = time.perf_counter()
    painter = open_painter(str(place), device)
    seconds = time.perf_counter() - start
    if not isinstance(painter, DiffusionPainter):
        raise BadBrief(f"model {painter.card.name!r} is no diffusion model: there is nothing to compare")
    size = sum(weight.nbytes for module in painter.modules.values() for weight in module.parameters())
    yield Finding("opens", f"{painter.card.summary}, {size / 2**30:.2f} GiB in {seconds:.1f} s")
    weight = first_not_finite(painter.modules)
    yield Finding("weights", f"{weight} is not finite" if weight else "all finite", weight is None)
    if full:
        yield from _compare(place, painter)


def _compare(place: Path, painter: DiffusionPainter) -> Iterator[Finding]:
    pipeline = _pipeline(place, painter)
    for prompt in PROMPTS:
        brief = Brief(
            prompt=prompt, negative_prompt=_NEGATIVE, seed=_SEED, steps=_STEPS, sampler="ddim", native=True
        ).resolve(painter.card)
        ours, theirs = _paint(painter, brief), _their_paint(pipeline, painter, brief)
        apart = (ours - theirs).abs() * 127.5
        mean, most = float(apart.mean()), float(apart.max())
        yield Finding(prompt, f"{mean:.2f} of 255 apart on average, {most:.0f} at most", mean < 1)


def _paint(painter: DiffusionPainter, brief: ResolvedBrief) -> Tensor:
    words = painter.condition(brief)
    canvas = painter.begin(brief, words, Seeds.of(brief.seed, 1))
    *_, canvas = painter.steps(brief, words, canvas)
    return painter.finish(canvas)


def _pipeline(place: Path, painter: DiffusionPainter) -> Any:
    """The diffusers pipeline of a folder, on the painter's device and in its dtype."""
    from diffusers import DDIMScheduler, DiffusionPipeline

    if not place.is_dir():
        raise BadBrief(f"{str(place)!r} is a single file: --full compares a diffusers folder")
    weight = next(painter.modules["unet"].parameters())
    try:
        pipeline = DiffusionPipeline.from_pretrained(place, local_files_only=True, dtype=weight.dtype)
    except Exception as error:  # diffusers passes on exceptions of many libraries
        raise BadWeights(f"diffusers does not open {str(place)!r}: {error}") from None
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(weight.device)


def _their_paint(pipeline: Any, painter: DiffusionPainter, brief: ResolvedBrief) -> Tensor:
    sides = (side // painter.vae.factor for side in (brief.height, brief.width))
    noise = Seeds.of(brief.seed, 1).normal(painter.vae.channels, *sides)
    with torch.no_grad():
        pictures: Tensor = pipeline(
            brief.prompt,
            negative_prompt=brief.negative_prompt,
            height=brief.height,
            width=brief.width,
            num_inference_steps=brief.steps,
            guidance_scale=brief.guidance,
            latents=noise.to(pipeline.unet.device, pipeline.unet.dtype),
            output_type="pt",
        ).images
    return pictures.cpu().float() * 2 - 1
