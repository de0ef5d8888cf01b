"""The commands of the apps, made from their forms: one entry each.

A command checks what it can without torch (the values, the pictures, the model's card, the place to write),
then loads its app and saves what it gives.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from danqing.apps import forms
from danqing.apps.forms import Form
from danqing.core.sources import read_source
from danqing.interfaces.cli.models import card_of
from danqing.interfaces.cli.options import form_parameters, taking
from danqing.interfaces.cli.paint import OUT, SEEDS
from danqing.interfaces.cli.places import Places, places_for
from danqing.interfaces.cli.progress import painting

if TYPE_CHECKING:
    from danqing.core.picture import Picture


class App(NamedTuple):
    """Where an app's function lives ("module:attribute"), its form, and lines for its help page.

    paints: it gives pictures; else it gives lines of text.
    """

    place: str
    form: type[Form]
    examples: tuple[str, ...]
    paints: bool = True


APPS = {
    "redraw": App(
        "danqing.apps.redraw:redraw",
        forms.Redraw,
        ('danqing redraw sketch.png "a rabbit, 3d style" --strength 0.7',),
    ),
    "inpaint": App(
        "danqing.apps.inpaint:inpaint",
        forms.Inpaint,
        (
            'danqing inpaint cat.png "a cat, cartoon style" --mask mask.png',
            'danqing inpaint scene.png "an owl, flat style" --where "the cat"',
            "danqing inpaint photo.png --damage scratches",
        ),
    ),
    "outpaint": App(
        "danqing.apps.outpaint:outpaint",
        forms.Outpaint,
        ('danqing outpaint house.png "a house, ink wash style" --right 0.5',),
    ),
    "zoom": App("danqing.apps.outpaint:zoom", forms.Zoom, ("danqing zoom house.png --by 2",)),
    "pan": App("danqing.apps.outpaint:pan", forms.Pan, ("danqing pan house.png left",)),
    "vary": App(
        "danqing.apps.vary:vary",
        forms.Vary,
        (
            "danqing vary paintings/a-fox-7-grid.png 2",
            'danqing vary fox.png --how subtle --prompt "a fox, ink wash style"',
        ),
    ),
    "remix": App("danqing.apps.vary:vary", forms.Remix, ('danqing remix fox.png "a fox, ink wash style"',)),
    "blend": App("danqing.apps.blend:blend", forms.Blend, ("danqing blend fox.png owl.png --weights 2,1",)),
    "stylize": App(
        "danqing.apps.stylize:stylize",
        forms.Stylize,
        ("danqing stylize cat.png --style paper-cut", "danqing stylize cat.png --like porcelain.png"),
    ),
    "upscale": App(
        "danqing.apps.upscale:upscale",
        forms.Upscale,
        ("danqing upscale paintings/a-fox-7-grid.png 3", "danqing upscale photo.png --creative"),
    ),
    "describe": App(
        "danqing.apps.describe:describe", forms.Describe, ("danqing describe cat.png",), paints=False
    ),
    "edit": App("danqing.apps.edit:edit", forms.Edit, ('danqing edit cat.png "a cat, paper-cut style"',)),
}


def __getattr__(name: str) -> Callable[..., None]:
    """The command called `name`, for the table of commands."""
    if name not in APPS:
        raise AttributeError(name)
    return _command(name, APPS[name])


def _command(name: str, app: App) -> Callable[..., None]:
    @taking(*form_parameters(app.form), *([OUT] if app.paints else []))
    def command(**options: Any) -> None:
        out = options.pop("out", None)
        form = _filled(app.form, options)
        _check(form)
        places = _places(name, out, form) if app.paints else None
        for line in _run(name, app, form, places):
            print(line)

    examples = "\n\n".join(app.examples)
    command.__doc__ = f"{app.form.__doc__}\n\n[b]Example[/b]\n\n{examples}"
    return command


def _filled(form: type[Form], options: dict[str, Any]) -> Form:
    given = {name: value for name, value in options.items() if value not in (None, [], False)}
    prompt = given.pop("prompt", "")
    given.setdefault("seed", secrets.randbelow(SEEDS))  # known now, since it names the files
    return form.of(" ".join(prompt) if isinstance(prompt, list) else prompt, **given)


def _check(form: Form) -> None:
    """Say now what is wrong with the pictures or the model, and what will be converted."""
    for place in (form.image, form.mask, *getattr(form, "images", ()), getattr(form, "like", None)):
        if place:
            for note in read_source(place).notes:
                _tell(note)
    card = card_of(form.model)
    if card is not None:
        form.check(card)


def _places(name: str, out: str | None, form: Form) -> Places:
    first = form.image or getattr(form, "images", (name,))[0]
    return places_for(out, f"{PurePath(first).stem} {name}", form.marks)


def _run(name: str, app: App, form: Form, places: Places | None) -> list[str]:
    module, attribute = app.place.split(":")
    with painting(form.model, f"{name}, seed {form.seed}") as watch:
        function = getattr(import_module(module), attribute)  # seconds of torch: under the bar
        outcome = function(**form.model_dump(exclude_unset=True), watch=watch)
    return list(outcome) if places is None else _saved(outcome, places)


def _saved(pictures: list[Picture], places: Places) -> list[str]:
    from danqing.core.images import grid
    from danqing.core.picture import Picture

    saved = [str(picture.save(path)) for picture, path in zip(pictures, places.pictures, strict=True)]
    if places.sheet is not None:
        first = pictures[0]
        whole = first.brief.model_copy(update={"count": len(pictures)})
        sheet = Picture(grid([picture.image for picture in pictures]), whole, first.info)
        saved.append(str(sheet.save(places.sheet)))
    return saved


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
