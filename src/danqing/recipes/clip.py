"""The bilingual CLIP that is the shipped painter's text encoder and the CLIP score.

Data: `danqing data stickers` (all things, all styles), without the held-out pairs. Steps of 128 pictures,
each with an English and a Chinese caption; 1.3 s each on one AVX-512 core.
"""

from __future__ import annotations

import random
from pathlib import Path

from transformers import CLIPModel, CLIPTokenizer

from danqing.data import captions
from danqing.data.dataset import CaptionedImages
from danqing.data.vocabulary import things
from danqing.families import open_clip_scorer
from danqing.families.clip import build_clip
from danqing.recipes._recipe import TrainRequest, read, recipe
from danqing.training.clip import ClipObjective
from danqing.training.tokenizer import train_tokenizer
from danqing.training.trainer import TrainOptions

STEPS = 2000


@recipe("clip", further=True)
def clip(request: TrainRequest) -> Path:
    """Train a tokenizer and both encoders; writes `clip`, in the format of transformers."""
    train_set, validation_set = read(request)
    model, tokenizer = _open_shipped() if request.further else _fresh(train_set)
    objective = ClipObjective(model, tokenizer, train_set, validation_set, often=things())
    options = TrainOptions(
        steps=request.steps or STEPS, batch=128, lr=1e-3, warmup=100, weight_decay=0.1, ema=0.99
    )
    request.train(objective, options, request.run)
    for language in ("en", "zh"):
        recalls = [objective.eval().recall(language, first) for first in (1, 5)]
        request.report(
            f"{language}: a caption finds its held-out picture first {recalls[0]:.3f}, "
            f"in five {recalls[1]:.3f}"
        )
    objective.export(request.run / "clip")
    return request.run / "clip"


def _fresh(train_set: CaptionedImages) -> tuple[CLIPModel, CLIPTokenizer]:
    tokenizer = train_tokenizer(_corpus(train_set.rows))
    return build_clip("sticker", tokenizer), tokenizer


def _open_shipped() -> tuple[CLIPModel, CLIPTokenizer]:
    scorer = open_clip_scorer()
    return scorer.model.train().requires_grad_(True), scorer.tokenizer


def _corpus(rows: tuple[dict[str, object], ...]) -> list[str]:
    """The tokenizer's training text: captions of all pictures in both languages, all tags and synonyms."""
    rng, lines = random.Random(0), []
    for row in rows:
        for language in ("en", "zh"):
            lines += [captions.caption_of(row, language, rng, captions.Shares())] * 2
        for field in ("tags", "tags_zh", "synonyms", "synonyms_zh"):
            lines += row.get(field, ())  # type: ignore[arg-type]
    return lines
