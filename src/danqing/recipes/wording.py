"""Open wording for the shipped painter: its text encoder learns sentences, tags and stories about its things.

No picture is used and the UNet stays as it is: sentences are drawn from a grammar (`data/wording.txt`), and
the encoder learns to have the same effect on the UNet as the plain caption. `--data` is not read. If
`vocabulary` left its UNet among the `--parts`, the encoder is trained for that one, with the encoder beside
it as the teacher.

The shipped encoder: 5,200 steps, 55 minutes of one shared core, in five runs, the grammar and the lexicon
growing between them (`recipes/NOTES.md`, "Open wording").
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from danqing.data.lexicon import lexicon, split_lexicon
from danqing.diffusion.painter import DiffusionPainter
from danqing.families import open_painter
from danqing.families.stable_diffusion.painter import painter_of
from danqing.recipes._recipe import TrainRequest, recipe
from danqing.training.trainer import TrainOptions
from danqing.training.wording import WordingObjective
from danqing.weights.diffusers_folder import read_folder
from danqing.weights.shipped import shipped_part


@recipe("wording")
def wording(request: TrainRequest) -> Path:
    """Teach the shipped painter's text encoder; writes `text_encoder`, a part of a diffusers folder."""
    painter, teacher = _painter_and_teacher(request.parts / "vocabulary")
    learned, _ = split_lexicon(lexicon())
    objective = WordingObjective(painter, learned, teacher=teacher)
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


def _painter_and_teacher(earlier: Path) -> tuple[DiffusionPainter, CLIPTextModel | None]:
    """The shipped painter and None, or one with the UNet of `vocabulary` and that UNet's text encoder."""
    if not (earlier / "unet" / "config.json").is_file():
        painter = open_painter("stickers")
        assert isinstance(painter, DiffusionPainter)
        return painter, None
    unet = UNet2DConditionModel.from_pretrained(earlier / "unet")
    teacher = CLIPTextModel.from_pretrained(earlier / "text_encoder")
    return painter_of(replace(read_folder(shipped_part("stickers")), unet=unet)), teacher
