"""The x4 upscaler of the shipped painter.

Data: `danqing data stickers-512 --known --size 512`; the 3d style is left out, since its originals are
bitmaps of 256 pixels.
"""

from __future__ import annotations

from pathlib import Path

from danqing.nets.upscaler import Upscaler
from danqing.recipes._recipe import TrainRequest, read, recipe
from danqing.training.trainer import TrainOptions
from danqing.training.upscaler import UpscalerObjective


@recipe("upscaler")
def upscaler(request: TrainRequest) -> Path:
    """Train the upscaler; writes `upscaler`."""
    train_set, validation_set = (part.where(lambda row: row.get("style") != "3d") for part in read(request))
    objective = UpscalerObjective(Upscaler(), train_set, validation_set)
    options = TrainOptions(
        steps=request.steps or 3000, batch=16, lr=1e-3, weight_decay=0.0, ema=0.995, precision="no"
    )
    request.train(objective, options, request.run)
    ours, bicubic = objective.eval().psnr()
    request.report(f"held-out PSNR {ours:.2f} dB, bicubic {bicubic:.2f} dB")
    objective.export(request.run / "upscaler")
    return request.run / "upscaler"
