"""Paint a picture again in a style: one the model knows, a style pack, or the look of another picture."""

from __future__ import annotations

from typing import Any

from danqing.apps._generate import Watch
from danqing.apps._grid import part_of
from danqing.apps._job import Job, filled, opened
from danqing.apps._style_packs import pack_of, packs, styled
from danqing.apps._zero_shot import open_zero_shot
from danqing.apps.describe import style_like, thing_in
from danqing.apps.forms import Stylize
from danqing.apps.redraw import from_picture, prevailing
from danqing.core.errors import BadBrief
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place, read_source

STRENGTH = 0.7  # of a style without a pack


def stylize(
    image: Place,
    prompt: str = "",
    *,
    like: Place | None = None,
    painter: Painter | None = None,
    watch: Watch | None = None,
    **fields: Any,
) -> list[Picture]:
    """`image` in another style; see `forms.Stylize` for the fields.

    Without a prompt the thing in the picture is named by its own words, or by CLIP.

    Raises:
        BadBrief: neither or both of style and `like` are given, or no such style.
    """
    other = None if like is None else read_source(like)
    told = {} if other is None else {"like": other.name or "picture"}
    style = fields.get("style")
    if style is None and any(pack.called(prompt) for pack in packs().values()):
        raise BadBrief(f"{prompt!r} is a style: give it as the style, and as words what to paint, if at all")
    if (style is None) == (other is None):
        raise BadBrief("give one of a style, such as paper-cut, and a picture to be like")
    form, source = filled(Stylize, image, prompt, **told, **fields)
    source = part_of(source)
    job = Job("stylize", form, opened(form, painter, source), source, watch)
    card = job.painter.card
    name = style_like(other.image, open_zero_shot(), card) if other is not None else str(style)
    thing = prompt or thing_in(source, card)
    if name in card.styles and name not in packs():  # of a model with styles of its own
        strength = form.strength or STRENGTH
        return from_picture(job, prompt=thing, style=name, strength=strength, **prevailing(job))
    pack = pack_of(name)
    words, negative, known = styled(thing, pack, card)
    return from_picture(
        job,
        prompt=words,
        negative_prompt=", ".join(part for part in (form.negative_prompt, negative) if part),
        style=known,
        strength=form.strength or pack.strength,
        steps=form.steps or (None if form.fast else pack.steps),
        adapters={**({pack.adapter: 1.0} if pack.adapter else {}), **form.adapters},
        **prevailing(job),
    )
