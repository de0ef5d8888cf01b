"""Repaints a region of a picture; pixels outside of it stay the same, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from PIL import Image

from danqing.apps._canvas_fit import CanvasFit
from danqing.apps._job import Job, on_background
from danqing.core.images import from_pil, mask_from_pil
from danqing.core.painter import InputImages
from danqing.core.picture import Picture


def inpaint_region(
    job: Job[Any], image: Image.Image, region: Image.Image, cover: Image.Image, **changes: Any
) -> Iterator[Picture]:
    """Repaint `region` of `image`, and composite the result over it by `cover`.

    region, cover: mode "L", of the size of `image`; 0 keeps a pixel.
    """
    card = job.card
    fit = CanvasFit.close(region, job.inputs, card)
    brief = job.resolve(fit.width, fit.height, **changes)
    scale = 1 if brief.native else card.scale
    images = InputImages(
        image=from_pil(fit.cut(image, scale))[None], region=mask_from_pil(fit.region(region, scale))[None]
    )
    for picture in job.generate(brief, images, cut=lambda image: fit.cut(image, scale)):
        yield replace(picture, image=on_background(fit.paste_over(picture.image, image, cover), job.inputs))
