"""Open wording for the shipped painter: its text tower learns sentences, tags and stories about its things.

No picture is used and the UNet stays as it is: sentences are drawn from a grammar (`data/wording.txt`), and
the tower learns to have the effect on the UNet that the plain caption has. `--data` is not read.

The shipped tower: 5,200 steps, 55 minutes of one shared core, in five runs, the grammar and the lexicon
growing between them (`recipes/NOTES.md`, "Open wording").
"""

from __future__ import annotations

from pathlib import Path

from danqing.data.lexicon import lexicon, split_lexicon
from danqing.diffusion.painter import DiffusionPainter
from danqing.families import open_painter
from danqing.recipes._recipe import TrainRequest, recipe
from danqing.training.trainer import TrainOptions
from danqing.training.wording import WordingObjective


@recipe("wording")
def wording(request: TrainRequest) -> Path:
    """Teach the shipped painter's text tower; writes `text_encoder`, a part of a diffusers folder."""
    painter = open_painter("stickers")
    assert isinstance(painter, DiffusionPainter)
    learned, _ = split_lexicon(lexicon())
    objective = WordingObjective(painter, learned)
    pace = TrainOptions(
        steps=request.steps or 5200,
        batch=64,
        lr=5e-4,
        warmup=100,
        weight_decay=0.0,
        ema=0.995,
        save_every=200,
        sheet_every=500,
    )

    def look(step: int) -> None:
        shares = ", ".join(f"{language} {objective.accuracy(language):.3f}" for language in ("en", "zh"))
        request.report(f"step {step}: sentences nearest to the right thing: {shares}")
        objective.export(request.run / "text_encoder")

    request.train(objective, pace, look=look)
    objective.export(request.run / "text_encoder")
    return request.run / "text_encoder"
