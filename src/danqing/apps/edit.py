"""Edit a picture by saying what it shall show, without a mask.

Imagic (arXiv 2210.09276) learns the picture for a minute and then paints a strip from it to the words; `fast`
runs the sampler backwards and paints again with other words, in seconds. The model is the same afterwards,
bit for bit, also after Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from danqing.apps.describe import words_of
from danqing.apps.easel import Easel, filled, opened, tunable
from danqing.apps.forms import Edit
from danqing.apps.frame import Frame
from danqing.apps.sittings import Watch, painted, pictures_of, wearing
from danqing.conditioning.prompt import spoken
from danqing.core.brief import Brief
from danqing.core.images import from_pil
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place
from danqing.tuning.adapter import attached
from danqing.tuning.imagic import ImagicOptions, imagic
from danqing.tuning.inversion import edited


def edit(
    image: Place,
    prompt: str,
    *,
    painter: Painter | None = None,
    watch: Watch | None = None,
    **fields: Any,
) -> list[Picture]:
    """A picture for each of `etas`: 0 is `image` as the model sees it, 1 follows the words alone.

    With `fast` there is one picture. See `forms.Edit` for the fields.

    Raises:
        BadBrief: it cannot be painted as asked. BadPicture: the picture cannot be read.
    """
    form, source = filled(Edit, image, prompt, **fields)
    easel = Easel("edit", form, opened(form, painter, source), source, watch)
    frame = Frame.around(source.image, form, easel.painter.card)
    brief = easel.settled(frame.width, frame.height)
    strip = _swapped(easel, brief, frame) if form.fast else _strip(easel, brief, frame)
    return [replace(picture, image=frame.shown(picture.image, source.image.size)) for picture in strip]


def _strip(easel: Easel, brief: Brief, frame: Frame) -> Iterator[Picture]:
    assert isinstance(easel.form, Edit)
    painter = tunable(easel.painter)
    pixels = from_pil(frame.cut(easel.source.image, 1 if brief.native else painter.card.scale))[None]
    with wearing(painter, spoken(brief)) as dressed:
        learned = imagic(painter, pixels, dressed, _options(easel.form.effort), easel.watch)
        plain = brief.model_copy(update={"adapters": {}})  # worn already
        for eta in easel.form.etas:
            with attached(painter, {learned.adapter: learned.weight(eta)}):
                [picture] = painted(plain, painter, words=learned.conditioning(eta), watch=easel.watch)
            told = easel.told(replace(picture, brief=brief))
            asked = {**told.info.asked, "etas": [eta]}
            yield replace(told, info=told.info.model_copy(update={"asked": asked}))


def _options(effort: float) -> ImagicOptions:
    usual = ImagicOptions()
    return replace(
        usual,
        words_steps=max(1, round(usual.words_steps * effort)),
        model_steps=max(1, round(usual.model_steps * effort)),
    )


def _swapped(easel: Easel, brief: Brief, frame: Frame) -> list[Picture]:
    """The picture inverted under the words that it shows, and painted again with the ones that are wanted."""
    painter = tunable(easel.painter)
    pixels = from_pil(frame.cut(easel.source.image, 1 if brief.native else painter.card.scale))[None]
    brief = brief.model_copy(update={"sampler": "ddim"})
    with wearing(painter, spoken(brief)) as dressed:
        before = dressed.model_copy(update={"prompt": words_of(easel.source, painter.card), "style": None})
        canvas = edited(painter, pixels, before, dressed, watch=easel.watch)
    return [easel.told(picture) for picture in pictures_of(brief, painter, [painter.finish(canvas)])]
