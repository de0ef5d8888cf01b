"""`danqing classify`: name what pictures show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from danqing.interfaces.cli.tables import MANY, Found, answer, parted

if TYPE_CHECKING:
    from danqing.apps._image_files import UnreadableFile
    from danqing.apps.classify import Named


def classify(
    pictures: MANY,
    labels: Annotated[str, typer.Option(help="Choose among these, by CLIP: cat,dog,狐狸.")] = "",
    model: Annotated[
        str | None,
        typer.Option(help="vit, or a folder of a ViT; with --labels, of a CLIP.", show_default="the judge"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many names.")] = 5,
    side: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Pixels at which a ViT looks.", show_default="its own")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a picture and line.")] = False,
) -> None:
    """Name what pictures show, with probabilities.

    Without options the judge answers: a small residual network that knows 120 things and always says one of
    them, also where none is right. With --labels CLIP chooses among words of your own, in English or Chinese.

    [b]Examples[/b]

    danqing classify cat.png paintings/

    danqing classify cat.png --labels cat,dog,狐狸

    danqing classify cat.png --model vit

    danqing classify cat.png --model vit-base-patch16-224
    """
    from danqing.apps.classify import classify as app
    from danqing.apps.classify import open_namer

    namer = open_namer(model, parted(labels), side)
    answer(_rows(app(pictures, namer, top)), as_json, ("name", "likely"))


def _rows(found: Iterable[Named | UnreadableFile]) -> Iterable[Found]:
    for each in found:
        told: dict[str, Any] = {"file": str(each.file)}
        names = getattr(each, "names", None)
        if names is None:
            yield Found(told | {"error": getattr(each, "why", "")})
            continue
        pairs = [{"name": name, "likely": round(share, 4)} for name, share in names]
        cells = [(name, f"{share:.1%}") for name, share in names]
        yield Found(told | {"names": pairs}, cells)
