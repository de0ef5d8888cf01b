"""`danqing animate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing.apps._disco_settings_file import scripted, settings_text
from danqing.apps._video import check_film, save_film
from danqing.apps.forms import Animate
from danqing.core.files import replacing
from danqing.core.sources import read_source
from danqing.interfaces.cli.apps import APPS, filled, seeded, tell
from danqing.interfaces.cli.models import card_of
from danqing.interfaces.cli.options import form_parameters, option, taking
from danqing.interfaces.cli.paint import tell_dropped
from danqing.interfaces.cli.places import FOLDER, slug
from danqing.interfaces.cli.progress import working

if TYPE_CHECKING:
    from danqing.core.picture import Picture

_OUT = option("out", "--out", "-o", help="A film (.gif .webp .mp4), or a folder of frames", unset=".gif here")


@taking(*form_parameters(Animate), _OUT)
def animate(**options: Any) -> None:
    """Make the film, and beside it a settings file that asks for it again."""
    out = options.pop("out")
    form, told = scripted(filled(Animate, options))
    form = seeded(form)
    for note in told.notes:
        tell(note)
    if form.start is not None:
        for note in read_source(form.start).notes:
            tell(note)
    card = card_of(form.model)
    if card is not None:
        form.check(card)
    place = Path(out).expanduser() if out else FOLDER / f"{slug(form.prompt)}-{form.seed}.gif"
    check_film(place)
    frames = _painted(form)
    print(save_film(frames, place, form.fps))
    tell_dropped(frames)
    settings_file = (
        place / "settings.txt" if place.is_dir() else place.with_name(f"{place.stem}_settings.txt")
    )
    with replacing(settings_file) as draft:
        draft.write_text(settings_text(form, told.settings), encoding="utf-8")
    tell(f"danqing animate --settings {settings_file} makes it again")


animate.__doc__ = "\n\n".join([f"{Animate.__doc__}", "[b]Examples[/b]", *APPS["animate"].examples])


def _painted(form: Animate) -> list[Picture]:
    doing = f"painting {form.frames} frames, seed {form.seed}"
    with working(form.model, doing) as watch:
        from danqing.apps.animate import animate as app  # seconds of torch: under the bar, after the checks

        return app(**form.model_dump(exclude_unset=True), watch=watch)
