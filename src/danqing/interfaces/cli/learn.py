"""`danqing learn`: teach a model a subject."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def learn(
    name: Annotated[str, typer.Argument(help="How you will call it: <NAME> in a prompt.")],
    images: Annotated[list[str], typer.Argument(help="Three to five pictures of it, or a folder of them.")],
    kind: Annotated[str, typer.Option("--class", help="What it is one of, such as cat.")],
    model: Annotated[str, typer.Option(help="A shipped model, a folder of weights or a file.")] = "stickers",
    method: Annotated[str, typer.Option(help="dreambooth, textual-inversion or both.")] = "dreambooth",
    steps: Annotated[
        int, typer.Option(min=1, help="More is more alike, and in the end less obedient.")
    ] = 300,
    rank: Annotated[int, typer.Option(min=1, max=256, help="Size of what is learned.")] = 8,
    prior: Annotated[int, typer.Option(min=0, help="Pictures of the class to hold on to, 0 = none.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Fixes all that is random.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of what was learned.")] = Path("adapters"),
) -> None:
    """Teach a model a subject from a few pictures, to paint it anywhere.

    Takes minutes. Stop it with Ctrl-C and call it again to go on where it stopped.

    [b]Examples[/b]

    danqing learn my-cat photos/ --class cat

    danqing paint "a <my-cat>, ink wash style"
    """
    from danqing.apps.learn import learn as app
    from danqing.families import open_painter
    from danqing.interfaces.cli.progress import painting
    from danqing.tuning.learning import LearnOptions

    options = LearnOptions(
        name=name,
        kind=kind,
        method=method,
        steps=steps,
        rank=rank,
        seed=seed,
        prior_count=prior,
        prior_weight=1.0 if prior else 0.0,
    )
    with painting(model, f"learning <{name}>") as watch:
        path = app(options, images, painter=open_painter(model), folder=out, watch=watch)
    typer.echo(path)
    typer.echo(f'paint it with: danqing paint "a <{name}>"', err=True)
