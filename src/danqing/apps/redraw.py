"""Paint a picture anew from another one and words: SDEdit (arXiv 2108.01073)."""

from __future__ import annotations

from typing import Any

from danqing.apps.easel import Easel, filled, opened
from danqing.apps.forms import Redraw
from danqing.apps.frame import Frame
from danqing.apps.sittings import Watch
from danqing.core.images import from_pil
from danqing.core.painter import Given, Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place


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
    easel = Easel("redraw", form, opened(form, painter), source, watch)
    return from_picture(easel, prompt=form.prompt)


def from_picture(easel: Easel, **changed: Any) -> list[Picture]:
    """The pictures of an easel whose source fills the canvas."""
    card, source = easel.painter.card, easel.source
    frame = Frame.around(source.image, easel.form, card)
    brief = easel.settled(frame.width, frame.height, **changed)
    scale = 1 if brief.native else card.scale
    given = Given(image=from_pil(frame.cut(source.image, scale))[None])
    return easel.paint(brief, given, lambda painted: frame.shown(painted, source.image.size))
