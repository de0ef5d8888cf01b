"""Open wording for the shipped painter: its text tower learns sentences, tags and stories about its things.

No picture is seen and the UNet stays as it is: sentences are drawn from a grammar (`data/wording.txt`), and
the tower learns to tell the UNet of each what it tells it of the plain caption. `--data` is not read.

The shipped tower: 5,200 steps, 55 minutes of one shared core, in five sittings, the grammar and the lexicon
growing between them (`recipes/NOTES.md`, "Open wording").
"""

from __future__ import annotations

from pathlib import Path

from danqing.data.lexicon import lexicon, parted
from danqing.diffusion.painter import DiffusionPainter
from danqing.families import open_painter
from danqing.recipes._recipe import Asked, recipe
from danqing.training.trainer import Trainer, TrainOptions
from danqing.training.wording import WordingObjective


@recipe("wording")
def wording(asked: Asked) -> Path:
    """Teach the shipped painter's text tower; writes `text_encoder`, a part of a diffusers folder."""
    painter = open_painter("stickers")
    assert isinstance(painter, DiffusionPainter)
    learned, _ = parted(lexicon())
    objective = WordingObjective(painter, learned)
    pace = TrainOptions(
        steps=asked.steps or 5200,
        batch=64,
        lr=5e-4,
        warmup=100,
        weight_decay=0.0,
        ema=0.995,
        save_every=200,
        sheet_every=500,
    )

    def look(step: int) -> None:
        told = ", ".join(f"{language} {objective.accuracy(language):.3f}" for language in ("en", "zh"))
        asked.watch(f"step {step}: sentences nearest to the right thing: {told}")
        objective.export(asked.run / "text_encoder")

    Trainer(objective, pace, asked.run).train(watch=asked.watch, look=look)
    objective.export(asked.run / "text_encoder")
    return asked.run / "text_encoder"
