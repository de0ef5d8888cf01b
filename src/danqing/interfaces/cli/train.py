"""`danqing train`: make a set of weights from a folder of captioned pictures."""

from __future__ import annotations

from inspect import Parameter
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from danqing.core.files import check_writable
from danqing.interfaces.cli.options import CONTEXT, set_signature
from danqing.interfaces.cli.report import Report, reporting

WHAT = Annotated[str, typer.Argument(help="A family or a part of one; --list shows them.", metavar="what")]
DATA = Annotated[Path, typer.Option(help="Pictures with captions: what 'danqing data stickers' builds.")]
RUN = Annotated[
    Path | None, typer.Option(help="Folder of the run; an interrupted one goes on. [default: runs/WHAT]")
]
STEPS = Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's own number.")]
FURTHER = Annotated[bool, typer.Option("--further", help="Start from the shipped weights, where it can.")]
PARTS = Annotated[
    Path | None,
    typer.Option(help="Where other trainings left the weights this one needs. [default: beside RUN]"),
]
THREADS = Annotated[int, typer.Option(min=0, help="CPU threads, 0 = all cores.")]
LISTING = Annotated[bool, typer.Option("--list", help="Show what can be trained.")]


def _parameter(name: str, default: Any, annotation: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


@reporting
@set_signature(
    CONTEXT,
    _parameter("what", "", WHAT),
    _parameter("data", Path("stickers"), DATA),
    _parameter("run", None, RUN),
    _parameter("steps", None, STEPS),
    _parameter("further", False, FURTHER),
    _parameter("parts", None, PARTS),
    _parameter("threads", 0, THREADS),
    _parameter("listing", False, LISTING),
    Parameter("report", Parameter.KEYWORD_ONLY),
)
def train(
    *,
    context: typer.Context,
    what: str,
    threads: int,
    listing: bool,
    report: Report,
    **options: Any,
) -> None:
    """Train a family of painters, or a part of one, on a folder of captioned pictures.

    Every training writes checkpoints, a log.csv and sheets of pictures into its run folder. Stop it with
    Ctrl-C; called again it goes on where it stopped, bit-equal. Several processes share each batch:
    torchrun --nproc-per-node 2 -m danqing.interfaces.cli train NAME

    [b]Examples[/b]

    danqing data stickers my-stickers --known

    danqing train gan --data my-stickers

    danqing paint "a red apple" --model runs/gan/gan
    """
    from danqing.recipes import check_name, recipe_summaries

    if listing or not what:
        _list(recipe_summaries())
        return
    check_name(what)
    run = Path("runs") / what if options["run"] is None else options["run"]
    check_writable(run / "log.csv")

    import torch

    from danqing.recipes import open_recipe

    start = perf_counter()
    torch.set_num_threads(threads or torch.get_num_threads())
    request = _request(run, context.obj.device, options, report)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # fixes the initial weights
        weights = open_recipe(what)(request)
    report.result(weights, {"name": what, "seconds": round(perf_counter() - start, 3)})
    if (weights / "card.json").exists():
        report.note(f'paint with it: danqing paint "a red apple" --model {weights}')


def _request(run: Path, device: str, options: dict[str, Any], report: Report) -> Any:
    from danqing.recipes import TrainRequest

    return TrainRequest(
        options["data"],
        run,
        parts=run.parent if options["parts"] is None else options["parts"],
        steps=options["steps"],
        further=options["further"],
        device=device,
        progress=lambda progress: report.note(progress.note or progress.message),
    )


def _list(summaries: dict[str, str]) -> None:
    width = max(map(len, summaries))
    for name, text in summaries.items():
        typer.echo(f"{name:<{width}}  {text}")
