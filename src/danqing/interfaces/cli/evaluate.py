"""`danqing evaluate`: measure a model."""

from __future__ import annotations

import json
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.files import atomic_write
from danqing.core.progress import ProgressCallback
from danqing.interfaces.cli.options import CONTEXT, set_signature
from danqing.interfaces.cli.output_files import check_free, check_place
from danqing.interfaces.cli.progress import counting
from danqing.interfaces.cli.report import Report, reporting
from danqing.interfaces.cli.tables import split_commas
from danqing.weights.shipped import shipped_models

if TYPE_CHECKING:  # these modules import torch, which `--help` must not load
    from danqing.data.dataset import CaptionedImages
    from danqing.evaluation.evaluate import EvaluationOptions, Evaluator


def _number(name: str, default: int, least: int, help: str, *flags: str) -> Parameter:
    kind = Annotated[int, typer.Option(*flags, min=least, help=help)]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


DATA = Annotated[Path, typer.Option(help="Real pictures: what 'danqing data stickers' built.")]
MODEL = Annotated[
    str, typer.Option(help="A shipped model, or a place of weights; several, by commas, make a table.")
]
FAST = Annotated[bool, typer.Option("--fast", help="Paint in a few steps.")]
SHEET = Annotated[Path | None, typer.Option(help="Also write the first 100 seen pictures here.")]
REPLACE = Annotated[bool, typer.Option("--overwrite", help="Replace the file of --sheet.")]
ALL = Annotated[bool, typer.Option("--all", help="A table of all shipped models instead.")]
OPTIONS = (
    Parameter("data", Parameter.KEYWORD_ONLY, annotation=DATA),
    Parameter("model", Parameter.KEYWORD_ONLY, default="stickers", annotation=MODEL),
    _number("train_pairs", 500, 2, "Pictures of pairs the model was trained on.", "--seen"),
    _number("held_out", 200, 2, "Pictures of pairs it never saw."),
    _number("chinese", 200, 1, "Of the seen ones, painted again from Chinese."),
    _number("seed", 0, 0, "Fixes the pairs and every picture."),
    Parameter("fast", Parameter.KEYWORD_ONLY, default=False, annotation=FAST),
    Parameter("sheet", Parameter.KEYWORD_ONLY, default=None, annotation=SHEET),
    Parameter("overwrite", Parameter.KEYWORD_ONLY, default=False, annotation=REPLACE),
    Parameter("everything", Parameter.KEYWORD_ONLY, default=False, annotation=ALL),
    Parameter("report", Parameter.KEYWORD_ONLY),
)


@reporting
@set_signature(CONTEXT, *OPTIONS)
def evaluate(
    *,
    context: typer.Context,
    data: Path,
    model: str,
    fast: bool,
    sheet: Path | None,
    overwrite: bool,
    everything: bool,
    report: Report,
    **numbers: Any,
) -> None:
    """Measure a model with an outside judge, on pairs it was trained on and on pairs it never saw.

    One (thing, style) pair in twenty never enters any training. The judge is a classifier of real pictures;
    its own reliability is the ceiling of every accuracy below it.

    [b]Examples[/b]

    danqing evaluate --data my-stickers --sheet sheet.png

    danqing evaluate --data my-stickers --all
    """
    session = context.obj
    several = list(shipped_models()) if everything else split_commas(model)
    if not several:
        raise BadBrief(f"model {model!r} names none: give one, or several by commas")
    for name in several:
        session.card(name)  # an unknown model is refused before the pictures are read
    table = everything or len(several) > 1
    for name, option_value in (("--sheet", sheet), ("--fast", fast)):
        if table and option_value:
            raise BadBrief(f"{name} is for one model: leave it out for a table")
    if sheet is not None:
        check_place(sheet)
        check_free(sheet, overwrite=overwrite)
    from danqing.data.dataset import read_imagefolder
    from danqing.evaluation.evaluate import EvaluationOptions
    from danqing.evaluation.model_table import open_evaluator

    numbers["chinese"] = min(numbers["chinese"], numbers["train_pairs"])
    options = EvaluationOptions(**numbers, fast=fast)
    real = read_imagefolder(data)
    with counting("painting", quiet=report.quiet) as progress:
        if table:
            _table(several, real, options, progress, report.as_json)
        else:
            evaluator = open_evaluator(several[0], real, progress)
            _page(evaluator, options, sheet, report.as_json)


def _page(evaluator: Evaluator, options: EvaluationOptions, sheet: Path | None, as_json: bool) -> None:
    """Print all figures of one model."""
    from danqing.apps import with_adapters
    from danqing.training.sheets import sheet_of

    painter = evaluator.painter
    with with_adapters(painter, Brief(prompt="-", fast=options.fast).resolve(painter.card)):
        measured = evaluator.report(options)
    figures = {**measured.figures, "pictures per second": measured.pictures_per_second}
    if as_json:
        print(json.dumps({"model": painter.card.name, **figures}, ensure_ascii=False))
    for name, value in figures.items() if not as_json else ():
        print(f"{name:<44} {value:9.4f}")
    if sheet is not None:
        with atomic_write(sheet) as draft:
            sheet_of(measured.painted["seen"][:100], columns=10).save(draft)


def _table(
    models: list[str],
    real: CaptionedImages,
    options: EvaluationOptions,
    progress: ProgressCallback,
    as_json: bool,
) -> None:
    """Print one line for each of several models, in Markdown or as JSON."""
    from danqing.evaluation.model_table import compare_models

    for k, line in enumerate(compare_models(models, real, options, progress)):
        if as_json:
            print(json.dumps(line.cells, ensure_ascii=False), flush=True)
            continue
        if k == 0:
            print(f"| {' | '.join(line.cells)} |")
            print("|---" * len(line.cells) + "|")
        print(f"| {' | '.join(line.cells.values())} |", flush=True)
