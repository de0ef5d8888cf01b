"""Paint a picture again in a style: one the model knows, a style pack, or the look of another picture."""

from __future__ import annotations

from typing import Any

from danqing.apps.describe import style_like, thing_in
from danqing.apps.easel import Easel, filled, opened
from danqing.apps.forms import Stylize
from danqing.apps.looking import open_looker
from danqing.apps.redraw import from_picture
from danqing.apps.sittings import Watch
from danqing.apps.styles import pack_of, styled
from danqing.core.errors import BadBrief
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place, read_source


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
    style = fields.pop("style", None)
    if (style is None) == (other is None):
        raise BadBrief("give one of a style, such as paper-cut, and a picture to be like")
    form, source = filled(Stylize, image, prompt, **told, **fields)
    easel = Easel("stylize", form, opened(form, painter), source, watch)
    card = easel.painter.card
    pack = pack_of(style if other is None else style_like(other.image, open_looker(), card))
    words, negative, known = styled(prompt or thing_in(source, card), pack, card)
    wanted = ", ".join(part for part in (form.negative_prompt, negative) if part)
    strength = form.strength or pack.strength
    return from_picture(easel, prompt=words, negative_prompt=wanted, style=known, strength=strength)
