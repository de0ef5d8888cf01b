"""`danqing train`: make a set of weights from a folder of captioned pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from danqing.core.files import check_writable


def train(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(help="A family or a part of one; --list tells them.", metavar="what")
    ] = "",
    data: Annotated[
        Path, typer.Option(help="Pictures with captions: what 'danqing data stickers' builds.")
    ] = Path("stickers"),
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run; an interrupted one goes on. [default: runs/WHAT]")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's own number.")] = None,
    further: Annotated[
        bool, typer.Option("--further", help="Start from the shipped weights, where it can.")
    ] = False,
    parts: Annotated[
        Path | None,
        typer.Option(help="Where other trainings left the weights this one needs. [default: beside RUN]"),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads, 0 = all cores.")] = 0,
    listing: Annotated[bool, typer.Option("--list", help="Tell what can be trained.")] = False,
) -> None:
    """Train a family of painters, or a part of one, on a folder of captioned pictures.

    `torchrun --nproc-per-node 2 -m danqing.interfaces.cli train NAME` shares each batch among two processes.
    Every training writes checkpoints, a log.csv and sheets of pictures into its run folder. Stop it with
    Ctrl-C; called again it goes on where it stopped, bit-equal.

    [b]Examples[/b]

    danqing data stickers my-stickers --known

    danqing train gan --data my-stickers

    danqing paint "a red apple" --model runs/gan/gan
    """
    from danqing.recipes import TrainRequest, check_name, open_recipe, summaries

    if listing or not what:
        _tell(summaries())
        return
    check_name(what)
    run = Path("runs") / what if run is None else run
    check_writable(run / "log.csv")
    request = TrainRequest(
        data,
        run,
        parts=run.parent if parts is None else parts,
        steps=steps,
        further=further,
        device=context.obj.device,
        progress=lambda event: typer.echo(event.message),
    )

    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the initial weights
        weights = open_recipe(what)(request)
    typer.echo(weights)
    if (weights / "card.json").exists():
        typer.echo(f'paint with it: danqing paint "a red apple" --model {weights}', err=True)


def _tell(summaries: dict[str, str]) -> None:
    width = max(map(len, summaries))
    for name, text in summaries.items():
        typer.echo(f"{name:<{width}}  {text}")
