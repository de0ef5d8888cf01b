"""The x4 upscaler of the shipped painter.

Data: `danqing data stickers-512 --known --size 512`; the 3d style is left out, since its originals are
bitmaps of 256 pixels.
"""

from __future__ import annotations

from pathlib import Path

from danqing.nets.upscaler import Upscaler
from danqing.recipes._recipe import Asked, read, recipe
from danqing.training.trainer import Trainer, TrainOptions
from danqing.training.upscaler import UpscalerObjective


@recipe("upscaler")
def upscaler(asked: Asked) -> Path:
    """Train the upscaler; writes `upscaler`."""
    seen, unseen = (part.where(lambda row: row.get("style") != "3d") for part in read(asked))
    objective = UpscalerObjective(Upscaler(), seen, unseen)
    options = TrainOptions(
        steps=asked.steps or 3000, batch=16, lr=1e-3, weight_decay=0.0, ema=0.995, precision="no"
    )
    Trainer(objective, options, asked.run).train(watch=asked.watch)
    ours, bicubic = objective.eval().psnr()
    asked.watch(f"held-out PSNR {ours:.2f} dB, bicubic {bicubic:.2f} dB")
    objective.export(asked.run / "upscaler")
    return asked.run / "upscaler"
