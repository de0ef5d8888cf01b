"""The judge: `python recipes/judge.py --data stickers --run runs/judge`.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, every picture:
the judge is never used in training or sampling. Before the last training, four shorter ones with a quarter
of the pictures left out tell how far its word can be trusted.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from common import arguments, say
from danqing.data.dataset import Stickers, read_imagefolder
from danqing.nets.judge import Judge, JudgeConfig
from danqing.training.classifier import JudgeObjective
from danqing.training.trainer import Trainer, TrainOptions

FOLDS = 4


def fold(row: dict[str, object]) -> int:
    """Which share of the pictures a row belongs to, decided by its file name."""
    return hashlib.sha1(str(row["file_name"]).encode(), usedforsecurity=False).digest()[0] % FOLDS


def trained(
    pictures: Stickers, probe: Stickers, config: JudgeConfig, steps: int, run: Path
) -> JudgeObjective:
    """One training from scratch."""
    objective = JudgeObjective(Judge(config), pictures, probe)
    options = TrainOptions(steps=steps, batch=64, lr=3e-3, weight_decay=0.05, ema=0.99, sheet_every=10**9)
    Trainer(objective, options, run).train(watch=say)
    return objective


if __name__ == "__main__":
    asked = arguments(__doc__)
    pictures = read_imagefolder(asked.data)
    concepts, styles = (tuple(sorted(set(pictures.column(column)))) for column in ("concept", "style"))
    config, steps, found = JudgeConfig(concepts, styles), asked.steps or 1500, []
    for k in range(FOLDS):
        rest, left_out = (
            pictures.where(lambda row, k=k, out=out: (fold(row) == k) == out) for out in (False, True)
        )
        concept, style = trained(rest, left_out, config, steps // 3, asked.run / f"fold{k}").accuracy()
        say(f"fold {k}: left-out concept top-1 {concept:.3f}, style {style:.3f}, {len(left_out)} pictures")
        found.append((concept, len(left_out)))
    reliability = sum(c * n for c, n in found) / sum(n for _, n in found)
    say(f"reliability: concept top-1 {reliability:.3f} on pictures left out")
    config = dataclasses.replace(config, reliability=round(reliability, 4))
    trained(pictures, pictures, config, steps, asked.run / "all").export(asked.run / "judge")
