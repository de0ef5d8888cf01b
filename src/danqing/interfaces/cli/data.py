"""`danqing data`: build data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Build data sets of captioned pictures.", add_completion=False)


@app.callback()
def data() -> None:
    """Build data sets of captioned pictures."""


@app.command()
def stickers(
    folder: Annotated[Path, typer.Argument(help="Where to write the data set.")] = Path("stickers"),
    known: Annotated[bool, typer.Option("--known", help="Only the 120 best-known things.")] = False,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the pictures in pixels.")] = 128,
    styles: Annotated[str, typer.Option(help="Only these, separated by commas.", show_default="all")] = "",
    cache: Annotated[Path, typer.Option(help="Where fetched packages are kept.")] = Path("packages"),
) -> None:
    """Fetch openly licensed drawings and render the sticker data set.

    Needs npm once, to fetch the drawing sets, and `pip install 'danqing[train]'`. The result is a Hugging
    Face imagefolder with captions in English and Chinese; NOTICE names the authors and licences.

    [b]Example[/b]

    danqing data stickers my-stickers --known --styles 3d,flat,paper-cut
    """
    from rich.console import Console
    from rich.progress import Progress

    from danqing.core.errors import BadBrief, unknown
    from danqing.data.captions import STYLE_WORDS
    from danqing.data.stickers import StickerOptions, build

    chosen = tuple(name.strip() for name in styles.split(",") if name.strip()) or tuple(STYLE_WORDS)
    for name in chosen:
        if name not in STYLE_WORDS:
            raise BadBrief(unknown("style", name, STYLE_WORDS))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("fetching drawings", total=None)

        def watch(done: int, total: int) -> None:
            progress.update(task, description="rendering", completed=done, total=total)

        count = build(folder, cache, StickerOptions(size=size, known_only=known, styles=chosen), watch)
    typer.echo(f"{count} pictures", err=True)
    typer.echo(folder)
