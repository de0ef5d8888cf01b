"""Cuts out the subject of a picture, on a transparent background."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

from PIL import Image

import danqing
from danqing.apps._grid import single_picture
from danqing.apps._photos import image_name
from danqing.apps._session import Session
from danqing.apps.cutout import Cutout
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.metadata import Info
from danqing.core.picture import Picture

MODEL = "stickers"  # the model in the brief of a picture that no model painted


def cut_subject(inputs: Cutout, session: Session) -> Iterator[Picture]:
    """See `cutout.cutout`."""
    start, source = perf_counter(), single_picture(inputs.image.source, None)
    region = _region(inputs, source.image, session)
    try:
        from danqing.photos.cutout import add_outline, cut_out, subject_of
    except ImportError:
        raise BadBrief("cutting out needs OpenCV and SciPy: pip install 'danqing[photos]'") from None
    alpha = subject_of(source.image, inputs.box, inputs.point, region)  # type: ignore[arg-type]
    if alpha is None:
        raise BadBrief(f"nothing stands out in {image_name(inputs.image)}: give a --box, a --point or words")
    image = cut_out(source.image, alpha)
    image = image.crop(alpha.getbbox()) if inputs.crop else image
    image = add_outline(image, inputs.outline) if inputs.outline else image
    brief = source.brief or Brief.of(prompt="", image=inputs.image.name).resolve(session.open_card(MODEL))
    info = Info(
        app="cutout",
        parent=source.id,
        seconds=perf_counter() - start,
        inputs=inputs.metadata(),
        versions={"danqing": danqing.__version__},
    )
    yield Picture(image, brief, info)


def _region(inputs: Cutout, image: Image.Image, session: Session) -> Image.Image | None:
    """The region that matches the words; None without words. Raises BadBrief if nothing matches."""
    if not inputs.where:
        return None
    from danqing.apps._masks import region_of

    return region_of(image, inputs.where, session.classifier(inputs.model))
