"""What a command does with the result of its app: save pictures, print lines, and so on."""

from __future__ import annotations

import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing.apps import App, PictureFiles, ResolvedInputs, Session
from danqing.core.files import check_writable, replacing
from danqing.interfaces.cli.options import option
from danqing.interfaces.cli.places import FOLDER, check_place, places_for, slug
from danqing.interfaces.cli.progress import working
from danqing.interfaces.cli.tables import print_rows

if TYPE_CHECKING:
    from danqing.core.picture import Picture

AnyApp = App[Any, Any]
OUT = option("out", "--out", "-o", help="A file (.png .webp .jpg) or a folder/", unset="paintings/ here")
JSON = option("as_json", "--json", kind=bool, help="One JSON object a picture and line.", unset="")


class Output(ABC):
    """A kind of result. options: what its commands take besides the inputs of the app."""

    options: tuple[Parameter, ...] = ()

    @abstractmethod
    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any]) -> None:
        """Run an app, and save or print its result.

        Raises:
            DanqingError: the place cannot be written, or whatever the app raises.
        """


class Pictures(Output):
    """Pictures, each saved as soon as it is finished, and a grid of several."""

    options = (OUT,)

    def run(self, app: AnyApp, inputs: PictureFiles, session: Session, extra: dict[str, Any]) -> None:
        """See `Output`."""
        places = places_for(
            extra["out"], inputs.title(app.name), inputs.marks, transparent=inputs.transparent
        )
        pictures: list[Picture] = []
        saved: list[Path] = []
        try:
            with working(_model(inputs), _painting(app, inputs)) as progress:
                for picture in session.stream(app, inputs, progress):
                    pictures.append(picture)
                    if not inputs.grid_only or len(inputs.marks) == 1:
                        saved.append(picture.save(places.pictures[len(pictures) - 1]))
                if places.sheet is not None:
                    saved.append(_grid(pictures, inputs).save(places.sheet))
        finally:
            for path in saved:
                print(path)
        if isinstance(inputs, ResolvedInputs):
            _tell_settings(pictures)
        tell_dropped(pictures)


class Lines(Output):
    """Lines of text."""

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any]) -> None:  # noqa: ARG002
        """See `Output`."""
        with working(_model(inputs), "looking at the picture") as progress:
            lines = session.run(app, inputs, progress)
        for line in lines:
            print(line)


class Rows(Output):
    """A row for each picture, as a table or as JSON."""

    options = (JSON,)

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any]) -> None:
        """See `Output`."""
        print_rows(session.run(app, inputs), extra["as_json"])


class Search(Output):
    """Pictures that were searched for: rows, and a sheet of them."""

    options = (
        option("out", "--out", "-o", help="Also write a sheet of them here.", unset="none"),
        JSON,
    )

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any]) -> None:
        """See `Output`."""
        sheet = Path(extra["out"]) if extra["out"] else None
        if sheet is not None:
            check_place(sheet)
        result = session.run(app, inputs)
        print_rows(result.rows, extra["as_json"])
        if sheet is not None:
            with replacing(sheet) as draft:
                result.sheet().save(draft)
            print(sheet, file=sys.stderr if extra["as_json"] else sys.stdout)


class Film(Output):
    """A film, and beside it a settings file that asks for it again."""

    options = (
        option(
            "out", "--out", "-o", help="A film (.gif .webp .mp4), or a folder of frames", unset=".gif here"
        ),
    )

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any]) -> None:
        """See `Output`."""
        from danqing.apps import check_film, save_film, settings_text

        out = extra["out"]
        place = Path(out).expanduser() if out else FOLDER / f"{slug(inputs.prompt)}-{inputs.seed}.gif"
        check_film(place)
        with working(inputs.model, f"painting {inputs.frames} frames, seed {inputs.seed}") as progress:
            frames = session.run(app, inputs, progress)
        print(save_film(frames, place, inputs.fps))
        tell_dropped(frames)
        single = place.with_name(f"{place.stem}_settings.txt")
        settings_file = place / "settings.txt" if place.is_dir() else single
        with replacing(settings_file) as draft:
            draft.write_text(settings_text(inputs), encoding="utf-8")
        _tell(f"danqing animate --settings {settings_file} makes it again")


class Adapter(Output):
    """What was learned of a subject, and how to paint it."""

    options = (option("out", "--out", "-o", help="Folder of what was learned", unset="adapters/ here"),)

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any]) -> None:
        """See `Output`."""
        out = extra["out"]
        if out is not None:
            session.new_adapters = Path(out)
        with working(inputs.model, f"learning <{inputs.name}>") as progress:
            path = session.run(app, inputs, progress)
        print(path)
        _tell(f"paint it with: danqing paint {_prompt_for(inputs.name, path, out)}")


class Lineage(Output):
    """A labelled sheet of the same words by several models."""

    options = (
        option("out", "--out", "-o", help="The sheet: a file or a folder/.", unset="paintings/ here"),
        option("singles", "--singles", help="Also save each picture into this folder.", unset="none"),
    )

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any]) -> None:
        """See `Output`."""
        seed, singles = inputs.seed, Path(extra["singles"]) if extra["singles"] else None
        [place] = places_for(extra["out"], f"{inputs.prompt} lineage", [seed]).pictures
        if singles is not None:
            check_writable(singles / f"{seed}.png")

        from danqing.apps import sheet

        generations = session.run(app, inputs, lambda progress: _tell(progress.message))
        for one in generations:
            _tell("  ".join(one.label))
            tell_dropped([one.picture])
            if singles is not None:
                print(one.picture.save(singles / f"{one.card.year}-{one.card.name}-{seed}.png"))
        with replacing(place) as draft:
            sheet(generations).save(draft)
        print(place)


OUTPUTS: dict[str, Output] = {
    "pictures": Pictures(),
    "lines": Lines(),
    "rows": Rows(),
    "search": Search(),
    "film": Film(),
    "adapter": Adapter(),
    "lineage": Lineage(),
}


def tell_dropped(pictures: Iterable[Picture]) -> None:
    """Print the words that no picture shows: too many for a text tower, or unknown to a list of names."""
    for dropped in dict.fromkeys(picture.info.dropped for picture in pictures):
        if dropped:
            _tell(f"too many words, or unknown to the model; these were not painted: {dropped}")


def _grid(pictures: list[Picture], inputs: PictureFiles) -> Picture:
    from danqing.apps import grid_of

    whole = isinstance(inputs, ResolvedInputs) and pictures[0].info.app == "paint"
    return grid_of(pictures, inputs.resolved if whole and isinstance(inputs, ResolvedInputs) else None)


def _model(inputs: Any) -> str:
    return str(inputs.resolved.model if isinstance(inputs, ResolvedInputs) else inputs.model)


def _painting(app: AnyApp, inputs: Any) -> str:
    """What the bar says while it is painted."""
    if not isinstance(inputs, ResolvedInputs):
        return f"painting {app.name}, seed {inputs.seed}"
    brief = inputs.resolved
    number = f"{brief.count} pictures" if brief.count > 1 else "1 picture"
    return f"painting {number}, seed {brief.seed}, {brief.width}x{brief.height}"


def _tell_settings(pictures: list[Picture]) -> None:
    first, last = pictures[0], pictures[-1]
    several = len(pictures) > 1
    seeds = f"{first.brief.seed} to {last.brief.seed}" if several else f"{first.brief.seed}"
    seconds = sum(picture.info.seconds for picture in pictures) / len(pictures)
    brief = first.brief
    how = f", {brief.steps} steps of {brief.sampler}" if brief.sampler else ""
    _tell(f"seed {seeds}, {seconds:.1f} s{' each' if several else ''}{how}")


def _prompt_for(name: str, path: Path, out: str | None) -> str:
    """What paints the subject: by its name in the folder `adapters` here, by its file anywhere else."""
    if out is None:
        return f'"a <{name}>"'
    from danqing.tuning.adapter_files import read_adapter

    return f'"a {read_adapter(path).trigger}" --adapter {shlex.quote(str(path))}'


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
