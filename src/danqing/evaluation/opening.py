"""An evaluator from what is shipped."""

from __future__ import annotations

from collections.abc import Callable

from danqing.data.dataset import Stickers
from danqing.diffusion.painter import DiffusionPainter
from danqing.evaluation.evaluate import Evaluator
from danqing.families import open_critic, open_painter, shipped_part
from danqing.nets.judge import Judge


def open_evaluator(model: str, real: Stickers, watch: Callable[[str, int, int], None]) -> Evaluator:
    """The painter by name, with the shipped judge and CLIP.

    Raises:
        BadWeights: the model cannot be opened, or the judge or CLIP is not shipped with this copy.
    """
    painter = open_painter(model)
    return Evaluator(
        painter=painter,
        judge=Judge.load(shipped_part("judge")),
        critic=open_critic(),
        real=real,
        codec=painter.codec if isinstance(painter, DiffusionPainter) else None,
        watch=watch,
    )
