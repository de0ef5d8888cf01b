"""Edits by DDIM inversion: find the noise that gives a picture, and denoise it with another prompt.

The noise preserves the composition of the picture, so that an edit needs no training: one pass of inversion
and one of sampling.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.painter import Canvas, InputImages
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.core.seeds import Seeds
from danqing.diffusion.inversion import invert as invert
from danqing.diffusion.painter import DiffusionPainter


def edit_by_inversion(
    painter: DiffusionPainter,
    picture: Tensor,
    source: ResolvedBrief,
    target: ResolvedBrief,
    region: Tensor | None = None,
    mend: int = 1,
    progress: ProgressCallback = no_progress,
) -> Canvas:
    """Repaint a picture [1 c h w] in [-1, 1] that shows what `source` says, as `target` says.

    Both are resolved.

    Steps, strength and guidance are the target's; the sampler is DDIM.

    region: mask [1 1 h w], 1 where to repaint.
    progress: counts the steps of painting.

    Returns the last canvas, for `Painter.finish`.

    Raises:
        BadBrief: the strength leaves no step.
        NotFinite: the latents are NaN or infinite.
    """
    target = target.model_copy(update={"sampler": "ddim"})
    words = painter.condition(target, InputImages(image=picture, region=region))
    canvas = painter.begin(target, words, Seeds([target.seed or 0]))
    levels = painter.levels(target, redraws=True)
    assert words.image is not None
    noise = invert(painter, words.image, painter.condition(source), levels, mend)
    canvas = replace(canvas, state=noise)
    for canvas in painter.steps(target, words, canvas):  # noqa: B020  the canvas moves along
        progress(Progress(canvas.step, canvas.of, preview=partial(painter.preview, canvas)))
    return canvas
