"""`danqing data`: build data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from danqing.interfaces.cli.progress import counting
from danqing.interfaces.cli.report import Report, reporting

app = typer.Typer(help="Build data sets of captioned pictures.", add_completion=False)


@app.callback()
def data() -> None:
    """Build data sets of captioned pictures."""


@app.command()
@reporting
def stickers(
    folder: Annotated[Path, typer.Argument(help="Where to write the data set.")] = Path("stickers"),
    known_only: Annotated[bool, typer.Option("--known", help="Only the 120 best-known things.")] = False,
    vocabulary: Annotated[
        Path | None, typer.Option(help="A list of things and their names, instead of those 120.", exists=True)
    ] = None,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the pictures in pixels.")] = 128,
    styles: Annotated[str, typer.Option(help="Only these, separated by commas.", show_default="all")] = "",
    cache: Annotated[Path, typer.Option(help="Where fetched packages are kept.")] = Path("packages"),
    *,
    report: Report,
) -> None:
    r"""Fetch openly licensed drawings and render the sticker data set.

    Needs npm once, to fetch the drawing sets, and `pip install 'danqing\[train]'`. The result is a Hugging
    Face imagefolder with captions in English and Chinese; NOTICE names the authors and licences.

    [b]Example[/b]

    danqing data stickers my-stickers --known --styles 3d,flat,paper-cut
    """
    from danqing.core.errors import BadBrief, unknown
    from danqing.data.captions import STYLE_WORDS
    from danqing.data.stickers import StickerOptions, build

    chosen = tuple(name.strip() for name in styles.split(",") if name.strip()) or tuple(STYLE_WORDS)
    for name in chosen:
        if name not in STYLE_WORDS:
            raise BadBrief(unknown("style", name, STYLE_WORDS))
    with counting("fetching drawings", "rendering", quiet=report.quiet) as progress:
        options = StickerOptions(size=size, known_only=known_only, vocabulary=vocabulary, styles=chosen)
        count = build(folder, cache, options, progress)
    _finish(folder, count, report)


@app.command()
@reporting
def scenes(
    stickers: Annotated[Path, typer.Argument(help="A data set that tells concepts and styles.")],
    folder: Annotated[Path, typer.Argument(help="Where to write the larger one.")],
    colours: Annotated[int, typer.Option(min=0, max=7, help="Other colours of each thing.")] = 3,
    counts: Annotated[int, typer.Option(min=0, max=3, help="Groups of two, three or four of it.")] = 1,
    places: Annotated[int, typer.Option(min=0, max=4, help="Pairs with another thing beside it.")] = 1,
    *,
    report: Report,
) -> None:
    """Compose scenes of a data set's pictures: "green cat", "three cats", "cat left of a house".

    The new folder holds the old pictures too. Each scene is named in English and Chinese.

    [b]Example[/b]

    danqing data scenes stickers scenes
    """
    from danqing.core.errors import BadBrief
    from danqing.data.scenes import SceneOptions, compose

    if os.path.realpath(folder) == os.path.realpath(stickers):
        raise BadBrief(f"{str(folder)!r} is the data set itself: give another folder for the larger one")
    with counting("reading", "composing", quiet=report.quiet) as progress:
        count = compose(stickers, folder, SceneOptions(colours, counts, places), progress)
    _finish(folder, count, report)


@app.command("filter")
@reporting
def filter_folder(
    folder: Annotated[Path, typer.Argument(help="Pictures; captions are those of its metadata.jsonl.")],
    side: Annotated[int, typer.Option(min=1, help="Shorter side in pixels, at least.")] = 64,
    sharp: Annotated[float, typer.Option(min=0, help="Variance of the Laplacian, at least.")] = 20.0,
    twin: Annotated[int, typer.Option(min=-1, max=64, help="Bits by which twins differ, at most.")] = 4,
    match: Annotated[float | None, typer.Option(help="Cosine of picture and caption, at least.")] = None,
    aesthetic: Annotated[
        tuple[Path, float] | None, typer.Option(help="A linear classifier over CLIP, and the least score.")
    ] = None,
    unsafe: Annotated[
        tuple[Path, float] | None, typer.Option(help="Likewise, and the greatest probability.")
    ] = None,
    *,
    report: Report,
) -> None:
    """Score every picture of a folder and write FOLDER/manifest.jsonl: what stays, and why the rest goes.

    Nothing is moved or deleted, and the same folder gives the same manifest.

    [b]Example[/b]

    danqing data filter my-pictures --side 128 --match 0.2
    """
    from danqing.data.filter import MANIFEST, Limits, filter_folder, write_manifest

    scorers = []
    if match is not None or aesthetic or unsafe:
        from danqing.data.clip_scores import ClipScores, read_linear
        from danqing.families import open_clip_scorer

        scorer = open_clip_scorer()
        width = scorer.model.config.projection_dim
        looks, safety = (read_linear(pair[0], width) if pair else None for pair in (aesthetic, unsafe))
        scorers.append(ClipScores(scorer, looks, safety))
    limits = Limits(
        side, sharp, twin, match, aesthetic[1] if aesthetic else None, unsafe[1] if unsafe else None
    )
    stay, count = write_manifest(filter_folder(folder, limits, scorers), folder / MANIFEST)
    report.note(f"{stay} of {count} pictures stay")
    report.result(folder / MANIFEST, {"pictures": count, "stay": stay})


def _finish(folder: Path, count: int, report: Report) -> None:
    report.note(f"{count} pictures")
    report.result(folder, {"pictures": count})
