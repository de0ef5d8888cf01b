"""Changes the style of a picture: a model repaints it, or an effect renders it without a model."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import danqing
from danqing.apps._describe import is_doubtful, style_like, thing_in
from danqing.apps._grid import single_picture
from danqing.apps._job import Job, on_background
from danqing.apps._photos import first_photo, image_name
from danqing.apps._redraw import redraw_source
from danqing.apps._session import Session
from danqing.apps._style_packs import apply_style, pack_of
from danqing.apps.stylize import Stylize
from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief, unknown
from danqing.core.metadata import Info
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback
from danqing.core.source_image import SourceImage

STRENGTH = 0.7  # the default for a style without a pack
RENDER_STRENGTH = 0.5  # the default of a rendering


def stylize_source(inputs: Stylize, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """See `stylize.stylize`."""
    packs = session.style_packs()
    card = session.card(inputs.model)
    if inputs.renders(card):
        return _renderings(inputs, session, progress)
    _check_paintable(inputs)
    photo = first_photo([] if inputs.anyway else [inputs.image], card)
    if photo is not None:
        inputs.add_notes(
            f"{image_name(photo)} is a photo, and will not look like itself as this model paints drawings:"
            " --how render keeps it (--anyway for no warning)"
        )
    job = Job.start("stylize", inputs, session, progress, image=inputs.image)
    card, like = job.card, inputs.like
    name = str(inputs.style) if like is None else style_like(like.source.image, session.classifier(), card)
    thing = inputs.prompt or _thing(inputs, job, session)
    if name in card.styles and name not in packs:  # a style of the model only
        strength = inputs.strength or STRENGTH
        return redraw_source(job, prompt=thing, style=name, strength=strength, **job.strong_guidance())
    pack = pack_of(name, packs)
    prompt, negative, style = apply_style(thing, pack, card)
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


def _thing(inputs: Stylize, job: Job[Stylize], session: Session) -> str:
    """The subject of a picture, from its metadata or by CLIP; adds a note if CLIP is not sure."""
    thing, brief = thing_in(job.source, job.card, session), job.source.brief
    if (brief is None or not brief.prompt) and is_doubtful(job.source.image, session.classifier()):
        inputs.add_notes(
            f"{image_name(inputs.image)} shows nothing that danqing is sure of, and is painted as {thing!r}:"
            " name what it shows in --prompt"
        )
    return thing


def _check_paintable(inputs: Stylize) -> None:
    """Raise BadBrief if a field is set that only a rendering supports."""
    for name in ("palette", "title", "seal"):
        if getattr(inputs, name):
            raise BadBrief(
                f"{name} is for a rendering, and this is painted: add how render, or leave {name} out"
            )


def _renderings(inputs: Stylize, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """The picture rendered in the style, one for each seed.

    Raises:
        BadBrief: the style has no effect to render it, or a font or a package is not installed.
    """
    if inputs.like is not None:
        raise BadBrief("a rendering follows no picture: leave like out, or how render")
    source = single_picture(inputs.image.source, None)
    style = _effect_of(inputs, session)
    brief = inputs.brief(style=None).resolve(session.open_card(inputs.model))
    reason = "" if inputs.how == "render" else ", since it looks like a photo; --how paint paints it"
    inputs.add_notes(f"{inputs.image.name or 'the picture'} is rendered in {style}, not painted{reason}")
    return _render_each(inputs, source, style, brief, progress)


def _effect_of(inputs: Stylize, session: Session) -> str:
    """The name of the effect for a style name in English or Chinese."""
    from danqing.effects import EFFECTS

    name = str(inputs.style)
    pack = next((pack for pack in session.style_packs().values() if pack.has_name(name)), None)
    style = pack.name if pack is not None else name
    if style not in EFFECTS:
        raise BadBrief(f"{unknown('style to render', name, EFFECTS)}; --how paint paints it")
    return style


def _render_each(
    inputs: Stylize, source: SourceImage, style: str, brief: ResolvedBrief, progress: ProgressCallback
) -> Iterator[Picture]:
    try:
        from danqing.effects.inscriptions import inscribe
        from danqing.effects.rendering import render
    except ImportError:
        raise BadBrief("rendering needs OpenCV and scikit-image: pip install 'danqing[photos]'") from None
    colours = [colour.strip() for colour in inputs.palette.replace("，", ",").split(",") if colour.strip()]
    strength = inputs.strength or RENDER_STRENGTH
    for k in range(brief.count):
        one, start = brief.alone(k), perf_counter()
        image = render(
            source.image, style, strength=strength, palette=colours, seed=one.seed, progress=progress
        )
        if inputs.title or inputs.seal:
            image = inscribe(image, title=inputs.title, seal=inputs.seal, seed=one.seed)
        info = Info(
            app="stylize",
            parent=source.id,
            seconds=perf_counter() - start,
            inputs=inputs.metadata(seed=one.seed, count=1, how="render"),
            versions={"danqing": danqing.__version__},
        )
        yield Picture(on_background(image, inputs), one, info)
