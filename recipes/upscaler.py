"""The shipped x4 upscaler: `python recipes/upscaler.py --data stickers-512 --run runs/upscaler`.

Data: `danqing data stickers-512 --known --size 512` without the 3d style, whose originals are bitmaps of
256 pixels.
"""

from __future__ import annotations

from common import arguments, read, say
from danqing.nets.upscaler import Upscaler
from danqing.training.trainer import Trainer, TrainOptions
from danqing.training.upscaler import UpscalerObjective

if __name__ == "__main__":
    asked = arguments(__doc__)
    seen, unseen = (part.where(lambda row: row["style"] != "3d") for part in read(asked.data))
    objective = UpscalerObjective(Upscaler(), seen, unseen)
    options = TrainOptions(
        steps=asked.steps or 500, batch=16, lr=1e-3, weight_decay=0.0, ema=0.995, precision="no"
    )
    Trainer(objective, options, asked.run).train(watch=say)
    ours, bicubic = objective.eval().psnr()
    say(f"held-out PSNR {ours:.2f} dB, bicubic {bicubic:.2f} dB")
    objective.export(asked.run / "upscaler")
