"""`danqing search` and `danqing score`: how well words and pictures belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from danqing.core.errors import BadBrief
from danqing.core.files import check_writable, replacing
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

    The scores are CLIP's cosines. The shipped CLIP has seen stickers and icons only: give --model for photos.

    [b]Examples[/b]

    danqing search paintings "a red apple"

    danqing search paintings 一只猫 --top 4 --out cats.png

    danqing search paintings --like cat.png
    """
    if out is not None:
        if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise BadBrief(f"out {out.name!r}: end the name with .png, .jpg or .webp")
        check_writable(out)
    found = _searched([folder], " ".join(words or []), like, top, model)
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
    """Tell how well words fit pictures, the best first: CLIP's cosine, from -1 to 1.

    [b]Example[/b]

    danqing score cat.png dog.png "a cat, flat style"
    """
    if len(pictures) < 2:
        raise BadBrief('give pictures and then words: danqing score cat.png "a cat"')
    *places, words = pictures
    if Path(words).exists():
        raise BadBrief(f"{words!r} is a file: put the words behind the pictures")
    answer(_rows(_searched(places, words, None, None, model)), as_json, ("score",))


def _searched(places: list[str], words: str, like: str | None, top: int | None, model: str | None) -> Search:
    from danqing.apps.search import search as app
    from danqing.families import open_critic

    return app(places, open_critic(model), words, like, top)


def _rows(found: Search) -> list[Found]:
    hits = [
        Found({"file": str(hit.file), "score": round(hit.score, 4)}, [(f"{hit.score:.3f}",)])
        for hit in found.hits
    ]
    return hits + [Found({"file": str(each.file), "error": each.why}) for each in found.unread]
