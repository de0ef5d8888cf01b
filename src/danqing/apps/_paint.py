"""Paints a prompt: from noise, or from an input picture at the beginning of the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from danqing.apps._controls import add_controls, filling
from danqing.apps._generate import GenerateOptions, generate
from danqing.apps._job import Job
from danqing.apps._redraw import on_canvas, redraw_source
from danqing.apps._session import Session
from danqing.apps.paint import Paint
from danqing.apps.redraw import Redraw
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback
from danqing.diffusion.samplers import SAMPLERS


def paint_resolved(inputs: Paint, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """See `paint.paint`."""
    if inputs.image is not None:
        yield from _from_image(inputs, session, progress)
        return
    brief = inputs.resolved_brief
    if brief.sampler:
        SAMPLERS[brief.sampler]  # raises for an unknown name before the model opens
    painter = session.painter_for(brief)
    scale = 1 if brief.native else painter.card.scale
    fit = filling(brief.width // scale, brief.height // scale)
    plain = GenerateOptions(painter, adapter_files=session.adapter_files(), batch=inputs.batch)
    options, names = add_controls(plain, inputs, session, fit)
    if names:
        inputs.set_resolved(brief.complete(**names))
    for picture in generate(
        inputs.resolved_brief, options, expanded=inputs.expanded_briefs, progress=progress
    ):
        yield replace(picture, info=picture.info.model_copy(update={"unlearned": inputs.unlearned_phrase}))


def _from_image(inputs: Paint, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Redraw the input picture, in its own aspect ratio."""
    assert inputs.image is not None
    own = inputs.model_fields_set & Redraw.model_fields.keys() - {"image", "prompt", "width", "height"}
    fields = {name: getattr(inputs, name) for name in own | {"seed", "model", "count"}}
    redraw = Redraw.of_values(image=inputs.image, prompt=inputs.prompt, **fields)
    redraw = on_canvas(redraw, inputs.image.source, session.open_card(inputs.model))
    job = Job.start("redraw", redraw, session, progress, image=inputs.image)
    return redraw_source(job, prompt=redraw.prompt, **job.strong_guidance())
