"""Variations of a picture or of one cell of a grid.

A variation starts from the picture and from noise between the parent's own and a new one (slerp), so it is
the same for the same parent, button and seed.
"""

from __future__ import annotations

from typing import Any

from danqing.apps._generate import Watch
from danqing.apps._grid import part_of
from danqing.apps._job import Job, filled, opened, words_for
from danqing.apps.forms import Vary
from danqing.apps.redraw import from_picture
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place, Source

STRENGTHS = {"subtle": 0.35, "strong": 0.7}  # how far to leave the picture
VARIATIONS = {"subtle": 0.15, "strong": 0.5}  # and its noise


def vary(
    image: Place, *, painter: Painter | None = None, watch: Watch | None = None, **fields: Any
) -> list[Picture]:
    """Pictures like `image`; see `forms.Vary` for the fields. With a prompt it is a remix.

    Raises:
        BadBrief: no such cell, or a picture that no words are known of. BadPicture: it cannot be read.
    """
    form, source = filled(Vary, image, fields.pop("prompt", ""), **fields)
    source = part_of(source, form.cell)
    job = Job("vary", form, opened(form, painter, source), source, watch)
    words = words_for(form, source, job.painter.card)
    if not words["prompt"]:
        raise BadBrief(
            f"{source.name!r} does not say its words: give a prompt, or ask danqing to describe it"
        )
    strength = form.strength or STRENGTHS[form.how]
    tile = form.tile or (Can.TILE in job.painter.card.can and bool(source.brief and source.brief.tile))
    return from_picture(job, strength=strength, tile=tile, **words, **_noise(form, source))


def _noise(form: Vary, source: Source) -> dict[str, Any]:
    """Noise between the parent's own, where that is known, and that of new seeds."""
    if source.brief is None or source.brief.seed is None:
        return {}
    return {
        "seed": source.brief.seed,
        "variation": form.variation or VARIATIONS[form.how],
        "variation_seed": form.seed if form.variation_seed is None else form.variation_seed,
    }
