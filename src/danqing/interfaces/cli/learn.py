"""`danqing learn`: teach a model a subject."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import typer

from danqing.apps.forms import Learn
from danqing.core.sources import read_source
from danqing.interfaces.cli.options import option, own_parameters, taking
from danqing.interfaces.cli.progress import working

_OUT = option("out", "--out", "-o", help="Folder of what was learned", unset="adapters/ here")


@taking(*own_parameters(Learn), _OUT)
def learn(**options: Any) -> None:
    """Teach a model a subject from a few pictures, to paint it anywhere.

    Takes some minutes. Stop it with Ctrl-C; called again it goes on where it stopped.

    [b]Examples[/b]

    danqing learn my-cat photos/ --class cat

    danqing paint "a <my-cat>, ink wash style"
    """
    given = options.pop("out")
    out = Path(given or "adapters")
    form = Learn.of_values(**{name: value for name, value in options.items() if value is not None})
    for place in form.images:
        if not Path(place).is_dir():
            read_source(place)  # told before seconds of opening
    with working(form.model, f"learning <{form.name}>") as watch:
        from danqing.apps.learn import learn as app

        path = app(form, folder=out, watch=watch)
    typer.echo(path)
    typer.echo(f"paint it with: danqing paint {_words_for(form.name, path, given)}", err=True)


def _words_for(name: str, path: Path, out: str | None) -> str:
    """What paints the subject: by its name in the folder `adapters` here, by its file anywhere else."""
    if out is None:
        return f'"a <{name}>"'
    from danqing.tuning.adapter_files import read_adapter

    return f'"a {read_adapter(path).trigger}" --adapter {shlex.quote(str(path))}'
