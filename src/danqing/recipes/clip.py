"""The bilingual CLIP that is the shipped painter's text tower and the critic.

Data: `danqing data stickers` (all things, all styles), without the held-out pairs. 600 steps of 128
pictures, each with an English and a Chinese caption.
"""

from __future__ import annotations

import random
from pathlib import Path

from danqing.data import captions
from danqing.families.clip import build_clip
from danqing.recipes._recipe import Asked, read, recipe
from danqing.training.clip import ClipObjective
from danqing.training.tokenizer import train_tokenizer
from danqing.training.trainer import Trainer, TrainOptions


@recipe("clip")
def clip(asked: Asked) -> Path:
    """Train a tokenizer and both towers; writes `clip`, in the format of transformers."""
    seen, unseen = read(asked)
    tokenizer = train_tokenizer(_corpus(seen.rows))
    objective = ClipObjective(build_clip("sticker", tokenizer), tokenizer, seen, unseen)
    options = TrainOptions(
        steps=asked.steps or 600, batch=128, lr=1e-3, warmup=100, weight_decay=0.1, ema=0.99
    )
    Trainer(objective, options, asked.run).train(watch=asked.watch)
    asked.watch(f"held-out picture finds its caption: {objective.eval().recall():.3f}")
    objective.export(asked.run / "clip")
    return asked.run / "clip"


def _corpus(rows: tuple[dict[str, object], ...]) -> list[str]:
    """Captions of every picture in both languages, and all tags: what the tokenizer learns from."""
    rng, lines = random.Random(0), []
    for row in rows:
        lines += [captions.english(str(row["concept"]), str(row["style"]), rng)] * 2
        lines += [captions.chinese(str(row["concept_zh"]), str(row["style"]), rng)] * 2
        lines += [*row["tags"], *row["tags_zh"]]  # type: ignore[misc]
    return lines
