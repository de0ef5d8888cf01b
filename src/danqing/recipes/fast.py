"""Few-step painting: an adapter of the shipped painter for pictures in 2 to 8 steps.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs. Starts from the shipped painter and leaves it as it is; what it learns goes into low-rank
changes. As `adapters/fast.safetensors` in a model's folder, with `fast` in its card, it is what `--fast`
paints with; before, `--adapter FILE --sampler lcm --steps 4 --guidance 1` is the same. The shipped painter
needs none: see recipes/NOTES.md.
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
