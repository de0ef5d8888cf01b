"""Trains a tiny network of each family for three steps: `python -m tests.distributed_training FOLDER [stop]`.

By itself, or in several processes started by torchrun. The logs of all runs are in the folder. stop: the last
run dies after its second step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from danqing.core.progress import Progress, no_progress
from danqing.families.dalle2 import painter as dalle2
from danqing.families.imagen import painter as imagen
from danqing.families.stable_diffusion.painter import random_painter
from danqing.training.adversarial import AdversarialOptions, AdversarialTrainer
from danqing.training.objective import Objective
from danqing.training.trainer import Trainer, TrainOptions
from tests import (
    test_adversarial,
    test_cascade,
    test_dalle1,
    test_dalle2,
    test_ddpm,
    test_distillation,
    test_imagen,
)
from tests.test_objectives import OBJECTIVES
from tests.text_encoders import reader

BATCH = 8
UNEVEN = 5  # rows, which two processes cannot share equally
ALL: dict[str, Callable[[], Objective]] = {
    "ddpm": test_ddpm.objective_of,
    "ddpm uneven": test_ddpm.objective_of,
    "dalle1 codec": test_dalle1.vae_objective,
    "dalle1 tokens": test_dalle1.token_objective,
    "dalle2 prior": lambda: test_dalle2.prior_objective(dalle2.random_painter()),
    "dalle2 decoder": lambda: test_dalle2.decoder_objective(None),
    "imagen base": lambda: test_imagen.base_objective(imagen.random_components(reader())),
    "imagen stage": lambda: test_cascade.objective(crop=16),
    "fast": lambda: test_distillation.objective(random_painter("tiny")),
    **OBJECTIVES,
}
LAST = list(ALL)[-1]
GANS = {"gan": "dcgan", "stylegan": "stylegan"}
PACE: dict[str, Any] = {"steps": 3, "batch": BATCH, "log_every": 1, "save_every": 2, "device": "cpu"}


class BlankSheets:
    """Sheets take longer than the steps, and other tests look at them."""

    def __call__(self) -> Image.Image:
        """A pixel."""
        return Image.new("RGB", (1, 1))


def die(progress: Progress) -> None:
    """As a machine that is switched off: nothing is tidied up."""
    if progress.step == 2:
        os._exit(1)


def train(name: str, folder: Path, *, stop: bool) -> None:
    torch.manual_seed(0)
    objective = ALL[name]()
    objective.sheet = BlankSheets()
    options = TrainOptions(lr=1e-3, warmup=0, precision="no", **PACE)
    if name.endswith("uneven"):
        options = replace(options, batch=UNEVEN)
    late = replace(options, save_every=1) if stop else options
    Trainer(objective, late, folder / name).train(die if stop else no_progress)


def train_gan(name: str, folder: Path) -> None:
    task = test_adversarial.duel_of(GANS[name])
    task.sheet = BlankSheets()
    AdversarialTrainer(task, AdversarialOptions(**PACE), folder / name).train()


def main(folder: Path, *, stop: bool = False) -> None:
    for name in GANS:
        train_gan(name, folder)
    for name in ALL:
        train(name, folder, stop=stop and name == LAST)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), stop="stop" in sys.argv)
