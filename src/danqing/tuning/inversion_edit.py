"""Edits by DDIM inversion: the noise of a picture, painted again with other words.

The noise holds what the picture is, so that an edit takes two walks and no learning.
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
    """A picture [1 c h w] in [-1, 1] of what `source` says, painted as `target` says; both are resolved.

    The target's steps, strength and guidance count; its sampler is DDIM. region: [1 1 h w], 1 where to
    repaint. progress: counts steps of painting. Returns the last canvas, for `Painter.finish`.

    Raises:
        BadBrief: a strength that leaves no step. NotFinite: the numbers broke down.
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
