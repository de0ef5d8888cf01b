"""An evaluator from what is shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import CLIPModel, CLIPTokenizer

import danqing.zoo
from danqing.core.errors import BadWeights
from danqing.data.dataset import Stickers
from danqing.diffusion.painter import DiffusionPainter
from danqing.evaluation.evaluate import Evaluator
from danqing.families import open_painter
from danqing.nets.judge import Judge


def open_evaluator(model: str, real: Stickers, watch: Callable[[str, int, int], None]) -> Evaluator:
    """The painter by name, with the shipped judge and CLIP.

    Raises:
        BadWeights: the model cannot be opened, or the judge or CLIP is not shipped with this copy.
    """
    painter = open_painter(model)
    clip = _shipped("clip")
    return Evaluator(
        painter=painter,
        judge=Judge.load(_shipped("judge")),
        clip=CLIPModel.from_pretrained(clip, local_files_only=True).float().eval(),
        tokenizer=CLIPTokenizer.from_pretrained(clip, local_files_only=True),
        real=real,
        codec=painter.codec if isinstance(painter, DiffusionPainter) else None,
        watch=watch,
    )


def _shipped(name: str) -> Path:
    folder = Path(danqing.zoo.__path__[0]) / name
    if not folder.is_dir():
        raise BadWeights(f"{str(folder)!r} is missing: install danqing again, with its weights")
    return folder
