"""The judge of `danqing evaluate`: names the thing and the style of a picture.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, every picture:
the judge is never used in training or sampling. Before the last training, four shorter ones, each with
another quarter of the pictures left out, measure its accuracy (cross-validation).
"""

from __future__ import annotations

import dataclasses
import hashlib
from functools import partial
from pathlib import Path

from danqing.data.dataset import CaptionedImages, read_imagefolder
from danqing.nets.judge import Judge, JudgeConfig
from danqing.recipes._recipe import TrainRequest, recipe
from danqing.training.classifier import JudgeObjective
from danqing.training.trainer import Trainer, TrainOptions

FOLDS = 4
STEPS = 2700


@recipe("judge")
def judge(request: TrainRequest) -> Path:
    """Train the judge and measure its reliability; writes `judge`."""
    pictures = read_imagefolder(request.data, progress=request.progress)
    pictures.require("concept", "style")
    concepts, styles = (tuple(sorted(set(pictures.column(column)))) for column in ("concept", "style"))
    config, steps, folds = JudgeConfig(concepts, styles), request.steps or STEPS, []
    for k in range(FOLDS):
        rest, left_out = pictures.split(partial(_in_fold, k))
        run = request.run / f"fold{k}"
        concept, style = _train(rest, left_out, config, steps // 3, run, request).accuracy()
        request.report(
            f"fold {k}: left-out concept {concept:.3f}, style {style:.3f}, {len(left_out)} pictures"
        )
        folds.append((concept, len(left_out)))
    reliability = sum(c * n for c, n in folds) / sum(n for _, n in folds)
    request.report(f"reliability: concept top-1 {reliability:.3f} on pictures left out")
    config = dataclasses.replace(config, reliability=round(reliability, 4))
    _train(pictures, pictures, config, steps, request.run / "all", request).export(request.run / "judge")
    return request.run / "judge"


def _in_fold(k: int, row: dict[str, object]) -> bool:
    """Whether a row is in fold `k` of the cross-validation, decided by its file name."""
    digest = hashlib.sha1(str(row["file_name"]).encode(), usedforsecurity=False).digest()
    return digest[0] % FOLDS == k


def _train(
    pictures: CaptionedImages,
    probe: CaptionedImages,
    config: JudgeConfig,
    steps: int,
    run: Path,
    request: TrainRequest,
) -> JudgeObjective:
    """Train a judge from scratch."""
    objective = JudgeObjective(Judge(config), pictures, probe)
    options = TrainOptions(steps=steps, batch=64, lr=3e-3, weight_decay=0.05, ema=0.99, sheet_every=10**9)
    Trainer(objective, options, run).train(request.progress)
    return objective
