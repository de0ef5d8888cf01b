"""The request that every recipe gets, and the register of recipes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from danqing.core.device import resolve_device
from danqing.core.errors import BadBrief
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.core.registry import Registry
from danqing.data.captions import STYLE_WORDS
from danqing.data.dataset import CaptionedImages, read_imagefolder
from danqing.data.holdout import held_out
from danqing.nets.latent import LatentGenerator
from danqing.recipes._names import check_name
from danqing.training.adversarial import AdversarialOptions, AdversarialTrainer
from danqing.training.gan import GanTask
from danqing.training.objective import Objective
from danqing.training.processes import Processes
from danqing.training.trainer import Trainer, TrainOptions

PROBES = (
    "a cat, 3d style",
    "a red apple, cartoon style",
    "一只兔子，剪纸风格",
    "a dragon, ink wash style",
    "a rocket, flat style",
    "青花瓷风格的茶壶",
    "a hamburger, 3d style",
    "a house, cartoon style",
    "a rose, 3d style",
    "a penguin, flat style",
    "a panda, ink wash style",
    "蝴蝶，剪纸风格",
)
"""Captions of the sample sheets: every style, both languages, easy and hard things."""


@dataclass(frozen=True)
class TrainRequest:
    """A request to train.

    data: a captioned folder of pictures.
    run: the folder of the run; an interrupted run resumes there.
    parts: the folder with the results of other recipes, each in a folder of its name.
    steps: number of steps; None for the recipe's own.
    further: whether to start from the shipped weights, if the recipe can.
    device: where to train, see `core.device.resolve_device`.
    progress: called with each line of the log, and with results.
    """

    data: Path
    run: Path
    parts: Path
    steps: int | None = None
    further: bool = False
    device: str = "auto"
    progress: ProgressCallback = no_progress

    def train(
        self,
        objective: Objective,
        options: TrainOptions,
        run: Path | None = None,
        look: Callable[[int], None] | None = None,
    ) -> None:
        """Train an objective on the device of the request, in the folder `run`; None for the request's.

        look: called with the step after each sample sheet.
        """
        place = self.run if run is None else run
        Trainer(objective, replace(options, device=self.device), place).train(self.progress, look)

    def train_adversarial(self, task: GanTask, options: AdversarialOptions) -> LatentGenerator:
        """Train a GAN on the device of the request. Returns the averaged generator."""
        return AdversarialTrainer(task, replace(options, device=self.device), self.run).train(self.progress)

    def report(self, line: str) -> None:
        """Report a line of results."""
        self.progress(Progress(message=line))


LEAST = 2  # least number of training pictures and of probe pictures

Recipe = Callable[[TrainRequest], Path]
"""A function that trains, and returns the folder of the finished weights."""

RECIPES: Registry[Recipe] = Registry("recipe", BadBrief)
"""Maps the name of each imported recipe to its function."""


def recipe(name: str, *, further: bool = False) -> Callable[[Recipe], Recipe]:
    """Decorator that registers a recipe as `name`.

    further: whether it can start from the shipped weights.
    """

    def add(made: Recipe) -> Recipe:
        @wraps(made)
        def train(request: TrainRequest) -> Path:
            if request.further and not further:
                raise BadBrief(f"recipe {name!r} always starts anew: leave --further out")
            if Processes(resolve_device(request.device)).writes:
                return made(request)
            with TemporaryDirectory() as folder:  # only the first process writes weights that are kept
                made(replace(request, run=Path(folder), progress=no_progress))
            return request.run

        return RECIPES.register(name)(train)

    return add


def open_recipe(name: str) -> Recipe:
    """Import and return the recipe called `name`.

    Raises:
        BadBrief: see `check_name`.
    """
    check_name(name)
    importlib.import_module(f"danqing.recipes.{name}")  # the module registers its recipe
    return RECIPES[name]


def read(request: TrainRequest) -> tuple[CaptionedImages, CaptionedImages]:
    """Read the pictures to train on and the probe pictures: held-out ones, or in a small folder the same.

    If the metadata has no field `held_out`, one picture in twenty is held out.

    Raises:
        BadBrief: there is no such folder.
        BadData: nothing can be learned from it.
    """
    if not request.data.is_dir():
        raise BadBrief(
            f"--data {str(request.data)!r} is no folder: "
            f"build one with 'danqing data stickers {request.data}'"
        )
    pictures = read_imagefolder(request.data, progress=request.progress)
    marked = any("held_out" in row for row in pictures.rows)
    train_set, validation_set = pictures.split(
        lambda row: bool(row.get("held_out")) if marked else _is_drawing(row)
    )
    if len(train_set) >= LEAST and len(validation_set) >= LEAST:
        return train_set, validation_set
    request.report(f"{len(pictures)} pictures: none is held out, so what is measured was learned from")
    return pictures, pictures


def _is_drawing(row: dict[str, Any]) -> bool:
    return held_out(str(row["file_name"]), "")


def probes_of(pictures: CaptionedImages) -> tuple[str, ...]:
    """The captions of the sample sheets: ours, or for a data set without styles some of its own."""
    if styles_of(pictures):
        return PROBES
    texts = pictures.column("text")
    return tuple(texts[k] for k in range(0, len(texts), -(-len(texts) // len(PROBES))))


def styles_of(pictures: CaptionedImages) -> dict[str, str]:
    """Maps each style of a data set to its words, as in a card."""
    styles = sorted({str(row["style"]) for row in pictures.rows if row.get("style")})
    return {style: "/".join(STYLE_WORDS.get(style, (style,))) for style in styles}
