"""`danqing paint`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from inspect import Parameter
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from danqing.conditioning.parameters import Parameters, brief_fields, image_strength, split
from danqing.conditioning.prompt import spoken
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Can, Card
from danqing.core.sources import SUFFIXES, read_source
from danqing.interfaces.cli.models import card_of
from danqing.interfaces.cli.options import brief_options, option, taking
from danqing.interfaces.cli.places import Places, places_for
from danqing.interfaces.cli.progress import working

if TYPE_CHECKING:
    from danqing.core.painter import Painter
    from danqing.core.picture import Picture

PROMPT = Parameter(
    "prompt",
    Parameter.KEYWORD_ONLY,
    annotation=Annotated[
        list[str],
        typer.Argument(metavar="PROMPT", help="What to paint, in English or Chinese.", show_default=False),
    ],
)
AR = option("ar", "--ar", help="Shape W:H, such as 3:2, instead of two sides", unset="the model's")
SEEDS = 2**31  # of the seeds drawn before the app is loaded: short enough to type
OUT = option("out", "--out", "-o", help="A file (.png .webp .jpg) or a folder/", unset="paintings/ here")


@taking(PROMPT, OUT, AR, *brief_options().values())
def paint(**options: Any) -> None:
    """Paint pictures from words.

    [b]Examples[/b]

    danqing paint "a red apple, 3d style"

    danqing paint "一只兔子，剪纸风格" --count 4 --seed 7 --background transparent

    danqing paint "a sailboat, flat style" --ar 3:2 --no "people, text" --out sailboat.webp

    danqing paint "a (red:1.3) fox in {snow|rain} --ar 3:2 --chaos 20 --no people" --count 4

    Pictures keep how they were made: see `danqing show FILE`. The same seed paints the same picture.
    """
    out, ratio, said = options.pop("out"), options.pop("ar"), options.pop("prompt")
    given = {name: value for name, value in options.items() if value not in (None, False)}
    paint_words(" ".join(said), ratio, out, **given)


def paint_words(
    said: str, ratio: str | None, out: str | None, *, cells: bool = True, **given: object
) -> None:
    """Paint and save what words with parameters ask for. cells: save each picture of a grid, not it alone."""
    words, asked = split(said)
    asked = asked if ratio is None else replace(asked, ar=ratio)
    place, rest = _in_front(words)
    clear = False
    if place is not None:  # what is wrong with it is told before opening a model
        clear = read_source(place).image.mode == "RGBA"
        words, given = rest, {**given, "image": place, "strength": image_strength(asked.iw)}
    brief = Brief.of(words, **given)
    painter, card = _chosen(brief.model)
    if clear and "background" not in given and Can.ALPHA in card.can:
        brief = brief.model_copy(update={"background": "transparent"})
    if asked.sref is not None and "style" in given:
        _tell("--sref has no effect beside --style")
    elif asked.sref is not None:
        brief = brief.model_copy(update={"style": _style_of(asked.sref, card)})
    wish = _asked(brief, asked, card)
    resolved = wish.resolved(card)
    _advise(resolved, asked)
    paint_brief(resolved, painter, out, cells=cells, wish=wish)


def _in_front(words: str) -> tuple[str | None, str]:
    """An image prompt, in front as in Midjourney, and the other words; its name may have spaces."""
    ends = [word.end() for word in re.finditer(r"\S+", words)]
    for end in reversed(ends):
        name = words[:end].strip()
        # os.path, not pathlib: it stays calm on names too long
        if PurePath(name).suffix.lower() in SUFFIXES and (end == ends[0] or os.path.isfile(name)):  # noqa: PTH113
            return name, words[end:].strip()
    return None, words


def paint_brief(
    brief: ResolvedBrief,
    painter: Painter | None,
    out: str | None,
    *,
    cells: bool = True,
    wish: Brief | None = None,
) -> None:
    """Paint and save what a settled brief asks for. painter: None opens its model.

    wish: the brief before it was settled; what it leaves open is decided otherwise for a picture in front.
    """
    for k in range(brief.count):
        spoken(brief.alone(k))  # what cannot be said is told at once
    places = places_for(out, brief.prompt, brief.seeds, transparent=brief.background == "transparent")
    pictures = _painted(brief, painter, wish or brief)
    _save(pictures, brief, places, cells=cells or brief.count == 1)


def _chosen(model: str) -> tuple[Painter | None, Card]:
    """The card, so that a bad request is told at once; what has none must be opened to know."""
    card = card_of(model)
    if card is not None:
        return None, card
    from danqing.families import open_painter

    painter = open_painter(model)
    return painter, painter.card


def _asked(brief: Brief, asked: Parameters, card: Card) -> Brief:
    """The brief with what the parameters ask for; an option of the command line goes before a parameter."""
    made = Brief.of(**brief_fields(asked, card, brief.model_dump(exclude_unset=True)))
    if asked.ar is not None and made.width and made.height:
        ratio = made.width / made.height
        _tell(f"ar {asked.ar} -> {made.width}x{made.height} ({ratio:.2f}:1, on the model's grid)")
    return made


def _advise(brief: ResolvedBrief, asked: Parameters) -> None:
    for note in asked.notes:
        _tell(note)
    if asked.iw is not None and brief.image is None:
        _tell("--iw has no effect without a picture: put its file in front of the words")
    if asked.ar is not None and brief.image is not None:
        _tell("--ar has no effect: the picture in front of the words has its own shape")
    if brief.negative_prompt.strip() and brief.guidance == 1:
        _tell("--no has no effect at guidance 1, which some models paint with when --fast: give more")
    elif brief.negative_prompt.strip() and brief.guidance < 1:
        _tell(f"guidance {brief.guidance:g} leads towards the words of --no, not away: give more than 1")


def _painted(brief: ResolvedBrief, painter: Painter | None, wish: Brief) -> list[Picture]:
    what = f"{brief.count} pictures" if brief.count > 1 else "1 picture"
    with working(brief.model, f"painting {what}, seed {brief.seed}, {brief.width}x{brief.height}") as watch:
        from danqing.apps.paint import paint as app  # seconds of torch: under the bar, after the checks
        from danqing.apps.redraw import redraw

        if brief.image is None:
            return app(brief, painter=painter, model=brief.model, watch=watch)
        fields = wish.model_dump(exclude={"image", "prompt", "width", "height"}, exclude_unset=True)
        fields |= {"seed": brief.seed, "model": brief.model}
        return redraw(brief.image, brief.prompt, painter=painter, watch=watch, **fields)


def _style_of(place: str, card: Card) -> str:
    """The style of the card that a picture looks like."""
    image = read_source(place).image
    from danqing.apps._zero_shot import open_zero_shot
    from danqing.apps.describe import style_like

    style = style_like(image, open_zero_shot(), card)
    _tell(f"the style of {place} is nearest to {style}")
    return style


def _save(pictures: list[Picture], brief: ResolvedBrief, places: Places, *, cells: bool) -> None:
    info = pictures[0].info
    for picture, path in zip(pictures, places.pictures, strict=True) if cells else ():
        print(picture.save(path))
    if places.sheet is not None:
        print(_sheet(pictures, brief).save(places.sheet))
    last = "" if brief.count == 1 else f" to {pictures[-1].brief.seed}"
    each = " each" if brief.count > 1 else ""
    how = f", {brief.steps} steps of {brief.sampler}" if brief.sampler else ""
    _tell(f"seed {brief.seed}{last}, {info.seconds:.1f} s{each}{how}")
    tell_dropped(pictures)


def _sheet(pictures: list[Picture], brief: ResolvedBrief) -> Picture:
    """The grid of all; where it was made from a picture, it tells what that app was asked."""
    from danqing.core.images import grid
    from danqing.core.picture import Picture

    first, count = pictures[0], len(pictures)
    told: dict[str, Any] = {"chosen": ""}  # for each picture something else
    if brief.image is not None:
        brief = first.brief.model_copy(update={"count": count})
        told["asked"] = {**first.info.asked, "count": count}
    return Picture(grid([one.image for one in pictures]), brief, first.info.model_copy(update=told))


def tell_dropped(pictures: Iterable[Picture]) -> None:
    """Tell of the words that no picture shows: too many for a text tower, or unknown to a list of names."""
    for dropped in dict.fromkeys(picture.info.dropped for picture in pictures):
        if dropped:
            _tell(f"too many words, or unknown to the model; these were not painted: {dropped}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
