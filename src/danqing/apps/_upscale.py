"""Upscales a picture, by a learned upscaler or by redrawing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from danqing.apps._describe import words_of
from danqing.apps._grid import cell_of
from danqing.apps._job import Job
from danqing.apps._redraw import redraw_source
from danqing.apps._session import Session
from danqing.apps._tiled_upscale import (
    Repaints,
    check_size,
    default_factor,
    fit_to_size,
    repaint,
    upscale_image,
)
from danqing.apps.upscale import Upscale
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.core.metadata import Info
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback

FRESH = 0.3  # the strength of a creative redraw


def cell_picture(inputs: Upscale) -> Picture:
    """The cell of a grid, for a request with `cell`."""
    source = inputs.image.source
    cell = cell_of(source, inputs.cell or 1)
    assert cell.brief is not None
    return Picture(cell.image, cell.brief, Info(app="upscale", parent=source.id, inputs=inputs.metadata()))


def upscale_source(inputs: Upscale, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """See `upscale.upscale`."""
    if not inputs.creative:
        inputs = inputs.model_copy(update={"fast": False})  # nothing is painted
    job = Job.start("upscale", inputs, session, progress, image=inputs.image)
    source = job.source
    painter = _at_noise_level(job.painter, inputs.noise_level)
    if isinstance(painter, Repaints):
        brief = _repaint_brief(job)
        large = repaint(source.image, painter, brief, inputs.scale, progress)
        yield job.with_metadata(Picture(large, brief))
        return
    if inputs.creative:
        yield job.with_metadata(_redrawn(job))
        return
    tile = inputs.tile or bool(source.brief and source.brief.tile)
    large = upscale_image(source.image, painter, inputs.scale, tile=tile, progress=progress)
    yield job.with_metadata(Picture(large, source.brief or _brief(job)))


def _at_noise_level(painter: Painter, level: int | None) -> Painter:
    """The painter with a noise level of the small picture; None leaves the default.

    Raises:
        BadBrief: the painter does not support noise levels, or the level is too high.
    """
    if level is None:
        return painter
    if not isinstance(painter, Repaints):
        raise BadBrief(f"model {painter.card.name!r} has no noise level: leave noise_level out")
    return painter.at_level(level)


def _redrawn(job: Job[Upscale]) -> Picture:
    """The picture redrawn with a low strength, and upscaled to the factor of the request."""
    factor, image = job.inputs.scale or default_factor(job.painter), job.source.image
    check_size(image, factor)
    words = job.words()
    words["prompt"] = words["prompt"] or words_of(job.source, job.card, job.session)
    [picture] = redraw_source(job, strength=job.inputs.strength or FRESH, count=1, **words)
    size = factor * image.width, factor * image.height
    return replace(picture, image=fit_to_size(picture.image, size, job.painter))


def _repaint_brief(job: Job[Upscale]) -> ResolvedBrief:
    """The brief for an upscaler by diffusion, with the prompt of the request or of the picture."""
    prompt = job.words()["prompt"]
    brief = job.inputs.brief(model=job.card.name, prompt=prompt, style=None, tile=False)
    return brief.resolve(job.card)


def _brief(job: Job[Upscale]) -> ResolvedBrief:
    """A brief for a picture without metadata."""
    card = job.card  # it can upscale seamless pictures even if it cannot paint them
    tile = job.inputs.tile and Can.TILE in card.can
    return job.inputs.brief(model=card.name, tile=tile).resolve(card)
