"""A ViT that names the things of a sticker set, for `danqing classify --model`.

Data: `danqing data stickers-known --known` in six styles, without the held-out pairs. It starts from the
image encoder of the shipped CLIP, which was not trained on those pairs either.
"""

from __future__ import annotations

from pathlib import Path

import torch

from danqing.families import open_clip_scorer
from danqing.families.vit import build_vit, start_from_clip
from danqing.recipes._recipe import TrainRequest, read, recipe
from danqing.training.trainer import TrainOptions
from danqing.training.vit import VitObjective

STEPS = 3000


@recipe("vit")
def vit(request: TrainRequest) -> Path:
    """Train a ViT to name things; writes `vit`."""
    train_set, validation_set = read(request)
    train_set.require("concept")
    torch.manual_seed(0)
    model = build_vit(
        "sticker", sorted(set(train_set.column("concept")) | set(validation_set.column("concept")))
    )
    objective = VitObjective(model, train_set, validation_set)
    start_from_clip(model, open_clip_scorer(), objective.pictures(64))
    options = TrainOptions(
        steps=request.steps or STEPS, batch=64, lr=5e-4, warmup=100, weight_decay=0.05, ema=0.99
    )
    request.train(objective, options, request.run)
    request.report(f"held-out pictures named right: {objective.eval().accuracy():.3f}")
    objective.export(request.run / "vit")
    return request.run / "vit"
