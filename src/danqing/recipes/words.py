"""Further words for the shipped painter: its text encoder learns what the lexicon calls its things.

Data: the painter's training data with scenes, of which only the captions are read. The UNet stays as it is.
One word in fifty is held out, to measure the effect of unknown words.

The shipped encoder: 16,000 steps in five runs, each with its own cosine of the learning rate, then 6,500 of a
sixth run, then 6,000 with its token embeddings frozen (`recipes/NOTES.md`).
"""

from __future__ import annotations

from pathlib import Path

from danqing.data.lexicon import lexicon
from danqing.diffusion.painter import DiffusionPainter
from danqing.families import open_painter
from danqing.recipes._recipe import TrainRequest, read, recipe
from danqing.training.trainer import TrainOptions
from danqing.training.words import SUFFIXES, WordsObjective


@recipe("words")
def words(request: TrainRequest) -> Path:
    """Teach the shipped painter's text encoder; writes `text_encoder`, a part of a diffusers folder."""
    train_set, _ = read(request)
    painter = open_painter("stickers")
    assert isinstance(painter, DiffusionPainter)
    objective = WordsObjective(painter, train_set.rows, lexicon())
    pace = TrainOptions(
        steps=request.steps or 16000,
        batch=128,
        lr=5e-4,
        warmup=100,
        weight_decay=0.0,
        ema=0.995,
        sheet_every=1000,
    )
    request.train(objective, pace, request.run)
    objective.export(request.run / "text_encoder")
    for language in SUFFIXES:
        learned, left_out = (
            objective.accuracy(part, language) for part in (objective.learned, objective.left_out)
        )
        request.report(
            f"{language}: nearest to the right name {learned:.3f}, of words left out {left_out:.3f}"
        )
    return request.run / "text_encoder"
