"""The shipped CLIP: `python recipes/clip.py --data stickers --run runs/clip`.

Data: `danqing data stickers` (all things, all styles), without the held-out pairs. 600 steps of 128
pictures, each with an English and a Chinese caption.
"""

from __future__ import annotations

import random

from common import arguments, read, say
from danqing.data import captions
from danqing.families.clip import build_clip
from danqing.training.clip import ClipObjective
from danqing.training.tokenizer import train_tokenizer
from danqing.training.trainer import Trainer, TrainOptions


def corpus(rows: tuple[dict[str, object], ...]) -> list[str]:
    """Captions of every picture in both languages, and all tags: what the tokenizer learns from."""
    rng, lines = random.Random(0), []
    for row in rows:
        lines += [captions.english(str(row["concept"]), str(row["style"]), rng)] * 2
        lines += [captions.chinese(str(row["concept_zh"]), str(row["style"]), rng)] * 2
        lines += [*row["tags"], *row["tags_zh"]]  # type: ignore[misc]
    return lines


if __name__ == "__main__":
    asked = arguments(__doc__)
    seen, unseen = read(asked.data)
    tokenizer = train_tokenizer(corpus(seen.rows))
    objective = ClipObjective(build_clip("sticker", tokenizer), tokenizer, seen, unseen)
    options = TrainOptions(
        steps=asked.steps or 600, batch=128, lr=1e-3, warmup=100, weight_decay=0.1, ema=0.99
    )
    Trainer(objective, options, asked.run).train(watch=say)
    say(f"held-out picture finds its caption: {objective.eval().recall():.3f}")
    objective.export(asked.run / "clip")
