"""Mix pictures, and words: their latents along great circles, and their words by the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from danqing.apps._canvas_fit import CanvasFit
from danqing.apps._generate import Watch
from danqing.apps._grid import part_of
from danqing.apps._job import Job, opened
from danqing.apps.describe import words_of
from danqing.apps.forms import Blend
from danqing.conditioning.grammar import Prompt, parse, render
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil
from danqing.core.painter import InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place, read_source


def blend(
    images: Sequence[Place],
    prompt: str = "",
    *,
    painter: Painter | None = None,
    watch: Watch | None = None,
    **fields: Any,
) -> list[Picture]:
    """New pictures between one to five; see `forms.Blend` for the fields.

    The words of a picture are those that painted it, or what CLIP says of it.

    Raises:
        BadBrief: more than five pictures, or weights that do not fit them. BadPicture: one cannot be read.
    """
    sources = [part_of(read_source(image)) for image in images]
    names = tuple(source.name or f"picture {k}" for k, source in enumerate(sources, start=1))
    form = Blend.of(prompt, images=names, **fields)
    weights = _weights(form)
    job = Job("blend", form, opened(form, painter, sources[0]), sources[0], watch)
    card = job.painter.card
    said = [weighed(words_of(source, card), weight) for source, weight in zip(sources, weights, strict=True)]
    wanted = " ".join([*said, *([weighed(prompt, 1.0)] if prompt else [])])
    scale = 1 if form.native else card.scale
    width, height = form.width or card.width * scale, form.height or card.height * scale
    brief = job.resolved(width, height, prompt=wanted)
    sized = form.model_copy(update={"width": width, "height": height})
    cuts = [CanvasFit.around(source.image, sized, card).cut(source.image, scale) for source in sources]
    given = InputImages(references=tuple(from_pil(cut)[None] for cut in cuts), weights=weights)
    return job.paint(brief, given, lambda painted: painted)


def weighed(text: str, weight: float) -> str:
    """`text` as a part of that weight; as several that sum to it, where it has weighted parts of its own."""
    prompt = parse(text)
    if len(prompt.parts) == 1 and not prompt.blend:
        return f"{text}::{weight:g}"
    total = sum(part.weight for part in prompt.parts)
    share = weight / total if total > 0 else 0.0
    parts = (replace(part, weight=part.weight * share) for part in prompt.parts)
    return render(Prompt(tuple(parts), blend=True))


def _weights(form: Blend) -> tuple[float, ...]:
    weights = form.weights or (1.0,) * len(form.images)
    if len(weights) != len(form.images):
        raise BadBrief(f"{len(weights)} weights for {len(form.images)} pictures: give one for each, or none")
    if min(weights) < 0 or sum(weights) <= 0:
        raise BadBrief(f"weights {', '.join(f'{w:g}' for w in weights)}: none below 0, and not all 0")
    return weights
