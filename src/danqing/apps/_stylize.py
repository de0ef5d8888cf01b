"""Painting a picture again in a style: one the model knows, a style pack, or the look of another picture."""

from __future__ import annotations

from collections.abc import Iterator

from danqing.apps._describe import style_like, thing_in
from danqing.apps._job import Job
from danqing.apps._redraw import redraw_source
from danqing.apps._session import Session
from danqing.apps._style_packs import pack_of, styled
from danqing.apps.stylize import Stylize
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback

STRENGTH = 0.7  # of a style without a pack


def stylize_source(inputs: Stylize, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """See `stylize.stylize`."""
    packs = session.style_packs()
    _check_style(inputs, session)
    job = Job.start("stylize", inputs, session, progress, image=inputs.image)
    card, like = job.card, inputs.like
    name = str(inputs.style) if like is None else style_like(like.source.image, session.classifier(), card)
    thing = inputs.prompt or thing_in(job.source, card, session)
    if name in card.styles and name not in packs:  # of a model with styles of its own
        strength = inputs.strength or STRENGTH
        return redraw_source(job, prompt=thing, style=name, strength=strength, **job.strong_guidance())
    pack = pack_of(name, packs)
    prompt, negative, style = styled(thing, pack, card)
    return redraw_source(
        job,
        prompt=prompt,
        negative_prompt=", ".join(part for part in (inputs.negative_prompt, negative) if part),
        style=style,
        strength=inputs.strength or pack.strength,
        steps=inputs.steps or (None if inputs.fast else pack.steps),
        adapters={**({pack.adapter: 1.0} if pack.adapter else {}), **inputs.adapters},
        **job.strong_guidance(),
    )


def _check_style(inputs: Stylize, session: Session) -> None:
    named = any(pack.called(inputs.prompt) for pack in session.style_packs().values())
    if inputs.style is None and named:
        raise BadBrief(
            f"{inputs.prompt!r} is a style: give it as the style, and as words what to paint, if at all"
        )
    if (inputs.style is None) == (inputs.like is None):
        raise BadBrief("give one of a style, such as paper-cut, and a picture to be like")
