"""Repaint a part of a picture. What is outside of it stays byte for byte, however often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PIL import Image

from danqing.apps._canvas_fit import CanvasFit, checked_mask, feathered
from danqing.apps._generate import Watch
from danqing.apps._job import Job, filled, opened, words_for
from danqing.apps._masks import holes, region_of, scratches
from danqing.apps._zero_shot import open_zero_shot
from danqing.apps.forms import Form, Inpaint
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil, mask_from_pil
from danqing.core.painter import InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place, read_source

_DAMAGE: dict[str, Callable[[Image.Image], Image.Image]] = {"scratches": scratches, "holes": holes}


def inpaint(
    image: Place,
    prompt: str = "",
    *,
    mask: Place | None = None,
    painter: Painter | None = None,
    watch: Watch | None = None,
    **fields: Any,
) -> list[Picture]:
    """`image` with its masked part painted anew; see `forms.Inpaint` for the fields.

    mask: of the picture's size, white (or transparent, if it has transparency) where to repaint. Instead of
    it `where` takes words for the part, and `damage` finds scratches or holes. Without a prompt the part is
    mended with the picture's own words, or with none.

    Raises:
        BadBrief: it cannot be painted as asked, or the mask is empty, full or of another size.
        BadPicture: a picture cannot be read.
    """
    named = None if mask is None else read_source(mask)
    told = {} if named is None else {"mask": named.name or "mask"}
    form, source = filled(Inpaint, image, prompt, **told, **fields)
    found = _region(form, source.image, None if named is None else named.image)
    region = checked_mask(found, source.image.size, _name(form))
    job = Job("inpaint", form, opened(form, painter, source), source, watch)
    thin = form.damage is not None and "feather" not in form.model_fields_set
    cover = feathered(region, 1 if thin else form.feather)
    return repainted(job, source.image, region, cover, **words_for(form, source, job.painter.card))


def repainted(
    job: Job, image: Image.Image, region: Image.Image, cover: Image.Image, **changed: Any
) -> list[Picture]:
    """`image` repainted in its region, and laid over it by `cover`; both "L" and of its size, 0 = keep."""
    card = job.painter.card
    frame = CanvasFit.close(region, job.form, card)
    brief = job.resolved(frame.width, frame.height, **changed)
    scale = 1 if brief.native else card.scale
    given = InputImages(
        image=from_pil(frame.cut(image, scale))[None], region=mask_from_pil(frame.region(region, scale))[None]
    )
    pictures = job.paint(brief, given, lambda painted: painted)
    whole = (frame.laid(picture.image, image, cover) for picture in pictures)
    return [replace(one, image=job.grounded(laid)) for one, laid in zip(pictures, whole, strict=True)]


def _region(form: Inpaint, image: Image.Image, mask: Image.Image | None) -> Image.Image:
    ways = [way for way in (form.mask, form.where, form.damage) if way is not None]
    if len(ways) != 1:
        raise BadBrief(
            f"{len(ways)} ways to say what to repaint: give one of a mask, words (where) or damage"
        )
    if mask is not None:
        return mask
    if form.where is not None:
        return region_of(image, form.where, open_zero_shot())
    assert form.damage is not None
    found = _DAMAGE[form.damage](image)
    if found.getbbox() is None:
        raise BadBrief(f"damage {form.damage!r}: none found; paint what to mend white in a mask")
    return found


def _name(form: Form) -> str:
    return repr(form.mask) if form.mask is not None else "found"
