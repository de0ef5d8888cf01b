"""Fills parts of photos without a model, where the model was trained on drawings only."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING

from PIL import Image

import danqing
from danqing.apps._photos import first_photo, image_name
from danqing.core.errors import BadBrief
from danqing.core.metadata import Info
from danqing.core.picture import Picture

if TYPE_CHECKING:
    from danqing.apps._inputs import PictureInputs
    from danqing.apps._session import Session

THICK = 0.03  # fraction of the longer side; a thicker part is not filled well from its border
PACKAGES = "photos are mended with OpenCV and scikit-image: pip install 'danqing[photos]'"


def fills(inputs: PictureInputs, session: Session) -> bool:
    """Whether the picture is a photo and the model paints drawings only, so that parts are filled instead."""
    return not inputs.anyway and first_photo([inputs.image], session.card(inputs.model)) is not None


def photo_damage(image: Image.Image) -> Image.Image:
    """See `damage_of`. Raises BadBrief if a package is not installed."""
    try:
        from danqing.photos.damage import damage_of
    except ImportError:
        raise BadBrief(PACKAGES) from None
    return damage_of(image)


def mask_preview(inputs: PictureInputs, session: Session, region: Image.Image) -> Iterator[Picture]:
    """The picture with a region ("L") in red."""
    source = inputs.image.source
    red = Image.composite(Image.new("RGB", region.size, "red"), source.image.convert("RGB"), region)
    yield plain_picture("inpaint", inputs, session, red, perf_counter())


def fill_region(inputs: PictureInputs, session: Session, region: Image.Image) -> Iterator[Picture]:
    """Fill a region ("L", not 0 = fill) of the photo from its surroundings.

    Raises:
        BadBrief: the region is too large, there is a prompt for it, or a package is not installed.
    """
    start = perf_counter()
    _check(inputs, region)
    from danqing.photos.filling import fill_damage

    inputs.add_notes(
        f"{image_name(inputs.image)} is a photo: the part is filled from what is around it, not painted"
    )
    done = fill_damage(inputs.image.source.image, region)
    yield plain_picture("inpaint", inputs, session, done, start)


def plain_picture(
    app: str, inputs: PictureInputs, session: Session, image: Image.Image, start: float
) -> Picture:
    """A picture that no model painted, with metadata.

    start: the time at which the work began, for the duration in the metadata.
    """
    if inputs.count > 1:
        raise BadBrief(f"count {inputs.count}: there is one way to fill a photo, so leave count out")
    brief = inputs.brief(style=None, count=1).resolve(session.open_card(inputs.model))
    info = Info(
        app=app,
        parent=inputs.image.source.id,
        seconds=perf_counter() - start,
        inputs=inputs.metadata(seed=brief.seeds[0], count=1),
        versions={"danqing": danqing.__version__},
    )
    return Picture(image, brief, info)


def _check(inputs: PictureInputs, region: Image.Image) -> None:
    try:
        from danqing.photos.filling import thickness
    except ImportError:
        raise BadBrief(PACKAGES) from None
    name = image_name(inputs.image)
    if inputs.prompt.strip():
        raise BadBrief(
            f"{name} is a photo, and model {inputs.model!r} paints drawings: --model sd15-inpaint paints"
            " what the words say, without words a small part is filled from what is around it,"
            " and --anyway paints a drawing there"
        )
    if thickness(region) > THICK * max(region.size):
        raise BadBrief(
            f"{name} is a photo, and the part is too large to be filled from what is around it:"
            " --model sd15-inpaint paints it, --anyway paints a drawing there"
        )
