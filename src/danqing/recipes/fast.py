"""Few-step painting: an adapter of the shipped painter for pictures in 2 to 8 steps.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs. The shipped painter stays as it is; only an adapter of low-rank changes is trained. `--fast`
uses it if it is `adapters/fast.safetensors` in a model's folder and the card has the field `fast`; otherwise
`--adapter FILE --sampler lcm --steps 4 --guidance 1` does the same. The shipped painter needs no such
adapter: see recipes/NOTES.md.
"""

from __future__ import annotations

from pathlib import Path

from danqing.diffusion.painter import DiffusionPainter
from danqing.families import open_painter
from danqing.recipes._recipe import TrainRequest, probes_of, read, recipe
from danqing.training.diffusion import DiffusionOptions
from danqing.training.trainer import TrainOptions
from danqing.tuning.distillation import ConsistencyObjective, every_layer
from danqing.tuning.dreambooth import freeze_networks

RANK = 16


@recipe("fast")
def fast(request: TrainRequest) -> Path:
    """Distil the shipped painter; writes `fast.safetensors`, an adapter."""
    train_set, _ = read(request)
    painter = open_painter("stickers")
    assert isinstance(painter, DiffusionPainter)
    with freeze_networks(painter):
        adapter = every_layer(painter, RANK)
        options = DiffusionOptions(drop=0.0, probes=probes_of(train_set))
        objective = ConsistencyObjective(painter, adapter, train_set, painter.card.guidance, options)
        pace = TrainOptions(
            steps=request.steps or 2500, batch=16, lr=5e-4, warmup=100, weight_decay=0.0, ema=0.995
        )
        request.train(objective, pace, request.run)
        objective.export(request.run)
    return request.run / "fast.safetensors"
