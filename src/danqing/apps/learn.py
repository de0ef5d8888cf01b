"""Learn a subject from a few pictures (DreamBooth, textual inversion), to paint it as `<name>`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from danqing.apps._job import tunable
from danqing.apps.forms import Learn
from danqing.core.errors import BadBrief
from danqing.core.painter import Painter
from danqing.core.sources import SUFFIXES, read_source
from danqing.data.vocabulary import things
from danqing.families import open_clip_scorer
from danqing.tuning.adapter_files import known_adapters, read_adapter, write_adapter
from danqing.tuning.dreambooth import subject_pictures
from danqing.tuning.learning import METHODS, LearnOptions
from danqing.tuning.learning import learn as learned

FOLDER = Path("adapters")


def learn(
    form: Learn,
    *,
    painter: Painter | None = None,
    folder: Path = FOLDER,
    watch: Callable[[str], object] | None = None,
) -> Path:
    """Learn what `form` names from its pictures, or folders of them; gives the adapter's file in `folder`.

    Checkpoints, sheets and scores are in `folder/NAME/`; a run that was stopped continues there. The painter
    is the same afterwards, bit for bit.

    Raises:
        BadBrief: an unknown method, or a name that cannot be written as `<name>`.
        BadData: fewer than two different pictures. BadPicture: one of them cannot be read.
    """
    METHODS[form.method]
    if not re.fullmatch(r"[^\W\d][\w-]*", form.name):
        raise BadBrief(f"name {form.name!r}: begin with a letter, then letters, digits, dashes, as in my-cat")
    if painter is None:
        from danqing.families import open_painter  # a caller with a painter of its own needs no weights

        painter = open_painter(form.model)
    model = tunable(painter)
    if form.name in model.adapters:
        raise BadBrief(
            f"name {form.name!r} is taken by an adapter of model {model.card.name!r}: choose another"
        )
    seen = subject_pictures([read_source(place).image for place in _files(form)], model)
    adapter = learned(model, seen, _options(form), folder / form.name, open_clip_scorer(), watch)
    path = folder / f"{form.name}.safetensors"
    write_adapter(replace(adapter, name=form.name), path)
    return path


def _options(form: Learn) -> LearnOptions:
    return LearnOptions(
        name=form.name,
        kind=form.kind,
        method=form.method,
        steps=form.steps,
        lr=form.lr,
        rank=form.rank,
        seed=form.seed,
        prior_count=form.prior,
        prior_weight=1.0 if form.prior else 0.0,
        avoid=(*things(), *_triggers(form.name)),
    )


def _triggers(name: str) -> list[str]:
    """What the model answers to for other subjects learned here: two can be painted together."""
    others = (path for known, path in known_adapters().items() if known != name)
    return [read_adapter(path).trigger for path in others]


def _files(form: Learn) -> list[Path]:
    """The pictures, with folders replaced by the files in them."""
    places = [Path(place) for place in form.images]
    inside = {
        place: sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES)
        for place in places
        if place.is_dir()
    }
    return [file for place in places for file in inside.get(place, [place])]
