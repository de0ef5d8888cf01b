"""Image to image, by SDEdit (arXiv 2108.01073)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

from PIL import Image

from danqing.apps._canvas_fit import CanvasFit
from danqing.apps._inputs import PaintInputs
from danqing.apps._job import Job
from danqing.apps._tiled_upscale import fit_to_size
from danqing.core.card import Card
from danqing.core.field_groups import Size
from danqing.core.images import from_pil, mask_from_pil
from danqing.core.painter import InputImages
from danqing.core.picture import Picture
from danqing.core.source_image import SourceImage

InputsT = TypeVar("InputsT", bound=PaintInputs)


def redraw_source(
    job: Job[Any], depth: Image.Image | None = None, *, keep_size: bool = False, **changes: Any
) -> Iterator[Picture]:
    """Redraw the source of a job.

    depth: a depth map of the source; white is near.
    keep_size: whether the result has the size of the source unless the user chose one; otherwise it has the
        size of the canvas.
    """
    source = job.source
    fit = CanvasFit.around(source.image, _with_own_size(job.inputs, source), job.card)
    brief = job.resolve(fit.width, fit.height, **changes)
    scale = 1 if brief.native else job.card.scale
    images = InputImages(image=from_pil(fit.cut(source.image, scale))[None])
    if depth is not None:
        resized = depth.convert("RGB").resize(source.image.size, Image.Resampling.BICUBIC)
        near = fit.cut(resized, scale).convert("L")  # black (far) outside the picture
        images = replace(images, depth=mask_from_pil(near)[None])
    keep_size = keep_size and not job.inputs.model_fields_set & Size.model_fields.keys()

    def on_source(painted: Image.Image) -> Image.Image:
        part = fit.crop_to_picture(painted, source.image.size)
        return fit_to_size(part, source.image.size, job.painter) if keep_size else part

    return job.generate(brief, images, on_source, lambda image: fit.cut(image, scale))


def on_canvas(inputs: InputsT, source: SourceImage, card: Card) -> InputsT:
    """The inputs with the size of the canvas for the source, if the user chose none."""
    fit = CanvasFit.around(source.image, _with_own_size(inputs, source), card)
    return inputs.model_copy(update={"width": fit.width, "height": fit.height})


def _with_own_size(inputs: PaintInputs, source: SourceImage) -> PaintInputs:
    """The inputs with the size of the source, if the source was painted on a canvas of that size."""
    brief = source.brief
    if inputs.width or inputs.height or brief is None or source.image.size != (brief.width, brief.height):
        return inputs
    return inputs.model_copy(update={"width": brief.width, "height": brief.height, "native": brief.native})
