"""Mixes pictures: their latents by spherical interpolation, and their prompts by the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from danqing.apps._canvas_fit import CanvasFit
from danqing.apps._describe import words_of
from danqing.apps._grid import single_picture
from danqing.apps._job import Job
from danqing.apps._session import Session
from danqing.apps.blend import Blend
from danqing.conditioning.grammar import Prompt, parse, render
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil
from danqing.core.painter import InputImages
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback
from danqing.core.source_image import SourceImage


def blend_sources(inputs: Blend, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """See `blend.blend`."""
    sources = [single_picture(ref.source) for ref in inputs.images]
    weights = _weights(inputs)
    job = Job.start("blend", inputs, session, progress, image=inputs.images[0])
    card = job.card
    scale = 1 if inputs.native else card.scale
    width, height = inputs.width or card.width * scale, inputs.height or card.height * scale
    brief = job.resolve(width, height, prompt=_prompt(job, sources, weights))
    sized = inputs.model_copy(update={"width": width, "height": height})
    cuts = [CanvasFit.around(source.image, sized, card).cut(source.image, scale) for source in sources]
    references = tuple(from_pil(cut)[None] for cut in cuts)
    return job.generate(brief, InputImages(references=references, weights=weights))


def _prompt(job: Job[Blend], sources: Sequence[SourceImage], weights: Sequence[float]) -> str:
    """The prompt of the request and the prompts of all pictures as weighted parts."""
    words = (words_of(source, job.card, job.session) for source in sources)
    parts = [weighted_text(text, weight) for text, weight in zip(words, weights, strict=True)]
    prompt = job.inputs.prompt
    return " ".join([*parts, *([weighted_text(prompt, 1.0)] if prompt else [])])


def weighted_text(text: str, weight: float) -> str:
    """`text` as a prompt part of that weight; its own weighted parts, if any, are scaled to this sum."""
    prompt = parse(text)
    if len(prompt.parts) == 1 and not prompt.blend:
        return f"{text}::{weight:g}"
    total = sum(part.weight for part in prompt.parts)
    share = weight / total if total > 0 else 0.0
    parts = (replace(part, weight=part.weight * share) for part in prompt.parts)
    return render(Prompt(tuple(parts), blend=True))


def _weights(inputs: Blend) -> tuple[float, ...]:
    weights = inputs.weights or (1.0,) * len(inputs.images)
    if len(weights) != len(inputs.images):
        raise BadBrief(
            f"{len(weights)} weights for {len(inputs.images)} pictures: give one for each, or none"
        )
    if min(weights) < 0 or sum(weights) <= 0:
        raise BadBrief(f"weights {', '.join(f'{w:g}' for w in weights)}: none below 0, and not all 0")
    return weights
