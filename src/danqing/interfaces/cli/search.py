"""`danqing search` and `danqing score`: how well words and pictures belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from danqing.core.errors import BadBrief
from danqing.core.files import replacing
from danqing.interfaces.cli.places import check_place
from danqing.interfaces.cli.tables import Found, answer

if TYPE_CHECKING:
    from danqing.apps.search import Search

MODEL = Annotated[
    str | None, typer.Option(help="A folder of another CLIP of transformers.", show_default="the shipped one")
]
JSON = Annotated[bool, typer.Option("--json", help="One JSON object a picture and line.")]


def search(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where to look, also below it.")],
    words: Annotated[
        list[str] | None, typer.Argument(help="What to look for, in English or Chinese.", show_default=False)
    ] = None,
    like: Annotated[str | None, typer.Option(help="A picture to look for the like of.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write a sheet of them here.")] = None,
    model: MODEL = None,
    as_json: JSON = False,
) -> None:
    """Find the pictures of a folder that answer best to words, or that look most like a picture.

    The score is CLIP's cosine; the shipped CLIP is small and has seen stickers only, so where the words name
    one of the 120 things that the judge knows, the judge's word counts too. For photos give another --model.

    [b]Examples[/b]

    danqing search paintings "a red apple"

    danqing search paintings 一只猫 --top 4 --out cats.png

    danqing search paintings --like cat.png
    """
    if out is not None:
        check_place(out)
    if words and like is not None:
        raise BadBrief("words and --like are given: look for one of them")
    found = _like(folder, like, top, model) if like else _said([folder], " ".join(words or []), top, model)
    answer(_rows(found), as_json, ("score",))
    if out is not None:
        with replacing(out) as draft:
            found.sheet().save(draft)
        typer.echo(out, err=as_json)


def score(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE... WORDS", help="Pictures or folders, then the words.")
    ],
    model: MODEL = None,
    as_json: JSON = False,
) -> None:
    """Tell how well words fit pictures, the best first, with the scores of `danqing search`.

    [b]Example[/b]

    danqing score cat.png dog.png "a cat, flat style"
    """
    if len(pictures) < 2:
        raise BadBrief('give pictures and then words: danqing score cat.png "a cat"')
    *places, words = pictures
    if Path(words).exists():
        raise BadBrief(f"{words!r} is a file: put the words behind the pictures")
    answer(_rows(_said(places, words, None, model)), as_json, ("score",))


def _said(places: list[str], words: str, top: int | None, model: str | None) -> Search:
    from danqing.apps._zero_shot import open_zero_shot
    from danqing.apps.search import search as app

    return app(places, open_zero_shot(model), words, top)


def _like(folder: str, like: str, top: int, model: str | None) -> Search:
    from danqing.apps.search import search_like
    from danqing.families import open_clip_scorer

    return search_like([folder], open_clip_scorer(model), like, top)


def _rows(found: Search) -> list[Found]:
    hits = [
        Found({"file": str(hit.file), "score": round(hit.score, 4)}, [(f"{hit.score:.3f}",)])
        for hit in found.hits
    ]
    return hits + [Found({"file": str(each.file), "error": each.why}) for each in found.unread]
