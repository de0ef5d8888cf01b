"""Paint a picture anew from another one and words: SDEdit (arXiv 2108.01073)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PIL import Image

from danqing.apps._canvas_fit import CanvasFit
from danqing.apps._generate import Watch
from danqing.apps._grid import part_of
from danqing.apps._job import Job, filled, opened
from danqing.apps.forms import Form, Redraw
from danqing.core.images import from_pil, mask_from_pil
from danqing.core.painter import InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place, Source, read_source


def redraw(
    image: Place,
    prompt: str,
    *,
    painter: Painter | None = None,
    watch: Watch | None = None,
    **fields: Any,
) -> list[Picture]:
    """Pictures that start from `image` and follow `prompt`; see `forms.Redraw` for the fields.

    image: a path, a PIL picture or a `Picture`, of any size. The result has its shape.

    Raises:
        BadBrief: it cannot be painted as asked. BadPicture: the picture cannot be read.
    """
    form, source = filled(Redraw, image, prompt, **fields)
    source = part_of(source)
    job = Job("redraw", form, opened(form, painter, source), source, watch)
    depth = None if form.depth is None else read_source(form.depth).image
    return from_picture(job, depth, prompt=form.prompt, **prevailing(job))


def prevailing(job: Job) -> dict[str, Any]:
    """The guidance with which words win over the picture, where the form does not say and the card does."""
    usual, form = job.painter.card.redraw_guidance, job.form
    return {} if usual is None or form.fast or form.guidance is not None else {"guidance": usual}


def _sized(form: Form, source: Source) -> Form:
    """A picture that was painted on a canvas of its own size is redrawn on it."""
    brief = source.brief
    if form.width or form.height or brief is None or source.image.size != (brief.width, brief.height):
        return form
    return form.model_copy(update={"width": brief.width, "height": brief.height, "native": brief.native})


def from_picture(job: Job, depth: Image.Image | None = None, **changed: Any) -> list[Picture]:
    """The pictures of an easel whose source fills the canvas; depth: of the source, white is near."""
    card, source = job.painter.card, job.source
    frame = CanvasFit.around(source.image, _sized(job.form, source), card)
    brief = job.resolved(frame.width, frame.height, **changed)
    scale = 1 if brief.native else card.scale
    given = InputImages(image=from_pil(frame.cut(source.image, scale))[None])
    if depth is not None:
        fitting = depth.convert("RGB").resize(source.image.size, Image.Resampling.BICUBIC)
        near = frame.cut(fitting, scale).convert("L")  # beyond the picture it is black, which is far
        given = replace(given, depth=mask_from_pil(near)[None])
    return job.paint(brief, given, lambda painted: frame.shown(painted, source.image.size))
