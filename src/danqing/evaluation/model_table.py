"""Opens an evaluator with the shipped judge and CLIP, and compares many models in one table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from danqing.core.card import Card
from danqing.core.progress import ProgressCallback
from danqing.data.dataset import CaptionedImages
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.vae import DiffusersVAE
from danqing.evaluation.evaluate import EvaluationOptions, Evaluator, Report
from danqing.families import open_clip_scorer, open_painter
from danqing.nets.judge import Judge
from danqing.weights.shipped import shipped_models, shipped_part
from danqing.weights.tensor_files import read_header


def open_evaluator(model: str, real: CaptionedImages, progress: ProgressCallback) -> Evaluator:
    """Open the model, the shipped judge and CLIP.

    Raises:
        BadWeights: the model cannot be opened, or the judge or CLIP is missing from this installation.
    """
    painter = open_painter(model)
    vae = painter.vae if isinstance(painter, DiffusionPainter) else None
    return Evaluator(
        painter=painter,
        judge=Judge.load(shipped_part("judge")),
        scorer=open_clip_scorer(),
        real=real,
        vae=vae if isinstance(vae, DiffusersVAE) else None,
        progress=progress,
    )


@dataclass(frozen=True)
class ModelRow:
    """One line of the table.

    card: the model's card.
    parameters: number of weights in its files.
    report: its figures.
    """

    card: Card
    parameters: int
    report: Report

    @property
    def cells(self) -> dict[str, str]:
        """The text of each cell, by column."""
        report_figures = self.report.figures
        share = {
            column: f"{100 * report_figures[name]:.1f} %"
            for column, name in (
                ("concept", "seen: concept top-1"),
                ("held-out", "held-out: concept top-1"),
                ("style", "seen: style"),
            )
            if name in report_figures
        }
        return {
            "model": self.card.name,
            "year": str(self.card.year),
            "prompt type": self.card.prompt_type,
            "size": f"{self.card.width}",
            "parameters": f"{self.parameters / 1e6:.1f} M",
            "pictures/s": f"{self.report.pictures_per_second:.2f}",
            **share,
            "FID": f"{report_figures['FID in judge features']:.2f}",
            "KID": f"{report_figures['KID in judge features']:.4f}",
            "CLIP": f"{report_figures['CLIP score, painted']:.1f}",
        }


def compare_models(
    models: Sequence[str],
    real: CaptionedImages,
    options: EvaluationOptions,
    progress: ProgressCallback,
) -> Iterator[ModelRow]:
    """Yield one line for each model, the oldest generation first.

    progress: its messages name the model.

    Raises:
        BadWeights: a model cannot be opened.
        BadData: see `Evaluator.report`.
    """
    painters = {name: open_painter(name).card for name in models}
    for name in sorted(models, key=lambda name: (painters[name].year, painters[name].paper)):
        evaluator = open_evaluator(name, real, _with_model_name(progress, name))
        yield ModelRow(evaluator.painter.card, count_parameters(name), evaluator.report(options))


def count_parameters(model: str) -> int:
    """The number of weights in the files of a model, without adapters.

    Raises:
        BadWeights: a file is damaged.
    """
    place = shipped_models().get(model, Path(model).expanduser())
    files = sorted(place.rglob("*.safetensors")) if place.is_dir() else [place]
    own = [file for file in files if file.parent.name != "adapters"]
    return sum(math.prod(shape) for file in own for shape in read_header(file).shapes.values())


def _with_model_name(progress: ProgressCallback, model: str) -> ProgressCallback:
    return lambda event: progress(replace(event, message=f"{model}: {event.message}"))
