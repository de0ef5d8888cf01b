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
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from danqing.apps import forms
from danqing.apps.forms import Form
from danqing.conditioning.parameters import brief_fields, split
from danqing.core.errors import BadBrief
from danqing.core.sources import Source, read_source
from danqing.interfaces.cli.models import card_of
from danqing.interfaces.cli.options import form_parameters, taking
from danqing.interfaces.cli.paint import OUT, SEEDS, tell_dropped
from danqing.interfaces.cli.places import Places, places_for
from danqing.interfaces.cli.progress import working

if TYPE_CHECKING:
    from danqing.core.picture import Picture


FormT = TypeVar("FormT", bound=Form)


class App(NamedTuple):
    """Where an app's function lives ("module:attribute"), its form, and lines for its help page."""

    place: str
    form: type[Form]
    examples: tuple[str, ...]


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
    "describe": App("danqing.apps.describe:describe", forms.Describe, ("danqing describe cat.png",)),
    "edit": App("danqing.apps.edit:edit", forms.Edit, ('danqing edit cat.png "a cat, paper-cut style"',)),
    "animate": App(
        "danqing.apps.animate:animate",
        forms.Animate,
        (
            'danqing animate "a red apple, 3d style" --zoom 1.02 --out apple.gif',
            'danqing animate "0: a red apple | 12: a green apple" --angle "0: (0), 24: (5)" -o film.webp',
        ),
    ),
}


def __getattr__(name: str) -> Callable[..., None]:
    """The command called `name`, for the table of commands."""
    if name not in APPS:
        raise AttributeError(name)
    return _command(name, APPS[name])


def _command(name: str, app: App) -> Callable[..., None]:
    @taking(*form_parameters(app.form), *([OUT] if app.form.paints else []))
    def command(**options: Any) -> None:
        out = options.pop("out", None)
        form = seeded(filled(app.form, options))
        sources = _read(form)
        model = form.model_for(sources[0])
        card = card_of(model)
        if card is not None:
            form.check(card)
        form = form.model_copy(update={"model": model})
        places = _places(name, out, form, sources) if form.paints else None
        for line in _run(name, app, form, places):
            print(line)

    examples = "\n\n".join(app.examples)
    command.__doc__ = f"{app.form.__doc__}\n\n[b]Example[/b]\n\n{examples}"
    return command


def filled(form: type[FormT], options: dict[str, Any]) -> FormT:
    """A form from the options of a command, and from the parameters at the end of its words.

    Raises:
        BadBrief: a value is out of its range, or a parameter has no meaning here.
    """
    given = {name: value for name, value in options.items() if value not in (None, [], False)}
    prompt = given.pop("prompt", "")
    words, asked = split(" ".join(prompt) if isinstance(prompt, list) else prompt)
    for note in asked.notes:
        tell(note)
    if asked.iw is not None or asked.sref is not None:
        raise BadBrief("--iw and --sref are for paint and imagine: leave them out here")
    return form.of(words, **brief_fields(asked, None, given))


def seeded(form: FormT) -> FormT:
    """The form with a seed, known now since it names the files."""
    return form if form.seed is not None else form.model_copy(update={"seed": secrets.randbelow(SEEDS)})


def _read(form: Form) -> list[Source]:
    """The pictures to start from; says what is wrong with any picture now, and what will be converted."""
    starts = [read_source(place) for place in (form.image, *getattr(form, "images", ())) if place]
    told = (form.mask, *(getattr(form, name, None) for name in ("like", "depth")))
    others = [read_source(place) for place in told if place]
    for source in [*starts, *others]:
        for note in source.notes:
            tell(note)
    return starts


def _places(name: str, out: str | None, form: Form, sources: list[Source]) -> Places:
    clear = sources[0].image.mode == "RGBA" and "background" not in form.model_fields_set
    transparent = clear or form.background == "transparent"
    return places_for(out, f"{PurePath(sources[0].name).stem} {name}", form.marks, transparent=transparent)


def _run(name: str, app: App, form: Form, places: Places | None) -> list[str]:
    module, attribute = app.place.split(":")
    doing = f"painting {name}, seed {form.seed}" if form.paints else "looking at the picture"
    with working(form.model, doing) as watch:
        function = getattr(import_module(module), attribute)  # seconds of torch: under the bar
        outcome = function(**form.model_dump(exclude_unset=True), watch=watch)
    return list(outcome) if places is None else _saved(outcome, places)


def _saved(pictures: list[Picture], places: Places) -> list[str]:
    from danqing.core.images import grid
    from danqing.core.picture import Picture

    saved = [str(picture.save(path)) for picture, path in zip(pictures, places.pictures, strict=True)]
    if places.sheet is not None:
        first = pictures[0]
        # the seeds of its cells follow one another, unless they are steps of one edit
        same = pictures[-1].brief.seeds[0] == first.brief.seeds[0]
        whole = first.brief if same else first.brief.model_copy(update={"count": len(pictures)})
        asked = _together(pictures) if same else {**first.info.asked, "count": len(pictures)}
        info = first.info.model_copy(update={"asked": asked})
        sheet = Picture(grid([picture.image for picture in pictures]), whole, info)
        saved.append(str(sheet.save(places.sheet)))
    tell_dropped(pictures)
    return saved


def _together(pictures: list[Picture]) -> dict[str, Any]:
    """What the steps of one edit were asked, in one: a list where each has its own, as of etas."""
    asked = [picture.info.asked for picture in pictures]
    alike = {key for key, value in asked[0].items() if all(other.get(key) == value for other in asked)}
    return {
        key: value if key in alike else [one for other in asked for one in other[key]]
        for key, value in asked[0].items()
    }


def tell(text: str) -> None:
    """Say something about the work, beside what it gives."""
    print(text, file=sys.stderr)
