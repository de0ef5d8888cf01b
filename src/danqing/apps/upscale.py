"""Enlarge a picture, or take one cell of a grid as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from danqing.apps._generate import Watch
from danqing.apps._grid import cell_of, part_of
from danqing.apps._job import Job, filled, opened, words_for
from danqing.apps._tiled_upscale import Repaints, enlarged, method, repainted
from danqing.apps.describe import words_of
from danqing.apps.forms import Upscale
from danqing.apps.redraw import from_picture
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.core.metadata import Info
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place

FRESH = 0.3  # the strength of a creative redraw


def upscale(
    image: Place, *, painter: Painter | None = None, watch: Watch | None = None, **fields: Any
) -> list[Picture]:
    """`image` larger by the painter's learned upscaler, in tiles; or a grid's `cell`, pixel for pixel.

    With `creative` it is first redrawn lightly, for fresh detail. See `forms.Upscale` for the fields.

    Raises:
        BadBrief: no such cell or noise level, or the result passes 32 megapixels.
        BadPicture: it cannot be read.
    """
    form, source = filled(Upscale, image, fields.pop("prompt", ""), **fields)
    if form.cell is not None:
        cell = cell_of(source, form.cell)
        assert cell.brief is not None
        info = Info(app="upscale", parent=source.id, asked=form.asked())
        return [Picture(cell.image, cell.brief, info)]
    if not form.creative:
        form = form.model_copy(update={"fast": False})  # nothing is painted
    source = part_of(source)
    job = Job("upscale", form, opened(form, painter, source), source, watch)
    painter = _levelled(job.painter, form.noise_level)
    start = _redrawn(job) if form.creative else Picture(source.image, source.brief or _unknown(job))
    tile = form.tile or bool(source.brief and source.brief.tile)
    if isinstance(painter, Repaints):
        brief = _painting(job)
        large = repainted(start.image, painter, brief, watch=_told(job))
        return [job.told(Picture(large, brief))]
    large = enlarged(start.image, painter, tile=tile, watch=_told(job))
    return [job.told(replace(start, image=large))]


def _levelled(painter: Painter, level: int | None) -> Painter:
    """The painter, making the picture so noisy first where it is asked to.

    Raises:
        BadBrief: it cannot, or not so much.
    """
    if level is None:
        return painter
    if not isinstance(painter, Repaints):
        raise BadBrief(f"model {painter.card.name!r} has no noise level: leave noise_level out")
    return painter.at_level(level)


def _told(job: Job) -> Callable[[int, int], object]:
    how, watch = method(job.painter), job.watch
    return lambda done, of: watch(f"enlarging {how}: {done}/{of}") if watch is not None else None


def _redrawn(job: Job) -> Picture:
    words = words_for(job.form, job.source, job.painter.card)
    words["prompt"] = words["prompt"] or words_of(job.source, job.painter.card)
    [picture] = from_picture(job, strength=job.form.strength or FRESH, count=1, **words)
    return picture


def _painting(job: Job) -> ResolvedBrief:
    """What a painter that enlarges by painting is told: the form's words, or those of the picture."""
    said = words_for(job.form, job.source, job.painter.card)["prompt"]
    given = job.form.brief(model=job.painter.card.name, prompt=said, style=None, tile=False)
    return given.resolved(job.painter.card)


def _unknown(job: Job) -> ResolvedBrief:
    """The brief of a picture that came without one."""
    card = job.painter.card  # which enlarges tiles whether or not it paints them
    tile = job.form.tile and Can.TILE in card.can
    return job.form.brief(model=card.name, tile=tile).resolved(card)
