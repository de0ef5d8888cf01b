"""Enlarge a picture, or take one cell of a grid as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from danqing.apps.describe import words_of
from danqing.apps.easel import Easel, filled, opened
from danqing.apps.enlarging import enlarged, method
from danqing.apps.forms import Upscale
from danqing.apps.redraw import from_picture
from danqing.apps.sittings import Watch
from danqing.apps.vary import cell_of
from danqing.core.brief import Brief
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
        BadBrief: no such cell, or the result passes 32 megapixels. BadPicture: it cannot be read.
    """
    form, source = filled(Upscale, image, fields.pop("prompt", ""), **fields)
    if form.cell is not None:
        source = cell_of(source, form.cell)
        assert source.brief is not None
        cell = Picture(source.image, source.brief)
        return [Easel("upscale", form, opened(form, painter), source, watch).told(cell)]
    easel = Easel("upscale", form, opened(form, painter), source, watch)
    start = _redrawn(easel) if form.creative else Picture(source.image, source.brief or _unknown(easel))
    if watch is not None:
        watch(method(easel.painter))
    return [easel.told(replace(start, image=enlarged(start.image, easel.painter, tile=form.tile)))]


def _redrawn(easel: Easel) -> Picture:
    prompt = easel.form.prompt or words_of(easel.source, easel.painter.card)
    [picture] = from_picture(easel, prompt=prompt, strength=easel.form.strength or FRESH, count=1)
    return picture


def _unknown(easel: Easel) -> Brief:
    """The brief of a picture that came without one."""
    return easel.form.brief(model=easel.painter.card.name).settled(easel.painter.card)
