"""Handles the results of apps on the command line: saves pictures, prints lines, and so on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from danqing.apps import App, PictureFiles, ResolvedInputs, Session
from danqing.core.errors import BadBrief
from danqing.core.files import atomic_write, check_writable
from danqing.interfaces.cli.options import option
from danqing.interfaces.cli.output_files import FOLDER, check_free, check_place, output_files, slug
from danqing.interfaces.cli.report import Report, picture_facts
from danqing.interfaces.cli.shell import quote
from danqing.interfaces.cli.standard_input import DASH
from danqing.interfaces.cli.stop_signals import delayed_stop
from danqing.interfaces.cli.tables import print_rows

if TYPE_CHECKING:
    from danqing.apps import FrameFolder
    from danqing.core.picture import Picture

AnyApp = App[Any, Any]
Save = Callable[["Picture", int | None], None]
"""A function that saves a picture, given its number from 0, or the grid of all, given None."""
OUT = option("out", "--out", "-o", help="A file (.png .webp .jpg), a folder/, or -", unset="paintings/ here")
OVERWRITE = option("overwrite", "--overwrite", kind=bool, help="Replace the file of --out.", unset="")
FROM_FILE = option(
    "from_file",
    "--from-file",
    help="A text of prompts, or a .jsonl of fields; - reads them here",
    unset="none",
)


class Output(ABC):
    """One kind of result. options: of its commands, besides the app's inputs, --json and --quiet."""

    options: tuple[Parameter, ...] = ()

    @abstractmethod
    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any], report: Report) -> None:
        """Run an app, and save or print its result. extra: the values of `options`.

        Raises:
            DanqingError: a path cannot be written, or the app raises it.
        """


class Pictures(Output):
    """Pictures: each is saved as soon as it is finished, and several also as a grid."""

    options = (OUT, OVERWRITE, FROM_FILE)

    def run(
        self, app: AnyApp, inputs: PictureFiles, session: Session, extra: dict[str, Any], report: Report
    ) -> None:
        """See `Output`."""
        to_stdout = extra["out"] == DASH
        save = self._to_stdout(inputs, report) if to_stdout else self._to_files(app, inputs, extra, report)
        pictures: list[Picture] = []
        working = report.working(_model(inputs), _painting(app, inputs))
        with report.counting(pictures, len(inputs.marks), "pictures"), working as progress:
            for picture in session.stream(app, inputs, progress):
                report.add(inputs.notes)
                with delayed_stop():
                    if not inputs.grid_only or len(inputs.marks) == 1:
                        save(picture, len(pictures))
                    pictures.append(picture)
            if len(inputs.marks) > 1:
                save(_grid(pictures, inputs), None)
        if isinstance(inputs, ResolvedInputs):
            report.note(_settings(pictures))

    @staticmethod
    def _to_files(app: AnyApp, inputs: PictureFiles, extra: dict[str, Any], report: Report) -> Save:
        """A function that writes pictures and the grid to files, and reports them."""
        files = output_files(
            extra["out"],
            inputs.file_title(app.name),
            inputs.marks,
            transparent=inputs.transparent,
            overwrite=extra["overwrite"],
            ending=extra["ending"],
        )

        def save(picture: Picture, number: int | None) -> None:
            path = files.grid if number is None else files.pictures[number]
            assert path is not None, "several pictures have a grid"
            report.picture(files.save(path, picture), picture, grid=number is None)

        return save

    @staticmethod
    def _to_stdout(inputs: PictureFiles, report: Report) -> Save:
        """A function that writes one picture to standard output.

        Raises:
            BadBrief: there are several pictures, or --json uses standard output.
        """
        if len(inputs.marks) > 1 and not inputs.grid_only:
            raise BadBrief(
                f"--out - is for one picture, not {len(inputs.marks)}: ask for one, or give a folder/"
            )
        if report.as_json:
            raise BadBrief("--out - and --json both write to standard output: leave one out")
        return lambda picture, _: report.binary(picture.encode(), [picture])


class Lines(Output):
    """Lines of text."""

    def run(
        self,
        app: AnyApp,
        inputs: Any,
        session: Session,
        extra: dict[str, Any],  # noqa: ARG002
        report: Report,
    ) -> None:
        """See `Output`."""
        with report.working(_model(inputs), "looking at the picture") as progress:
            lines = session.run(app, inputs, progress)
        report.add(inputs.notes)
        for line in lines:
            report.line(inputs.image_refs()[0].name, line)


class Rows(Output):
    """One row for each picture, as a table or as JSON."""

    def run(
        self,
        app: AnyApp,
        inputs: Any,
        session: Session,
        extra: dict[str, Any],  # noqa: ARG002
        report: Report,
    ) -> None:
        """See `Output`."""
        print_rows(session.run(app, inputs), report.as_json)


class Search(Output):
    """The pictures that a search has as its result: rows, and a contact sheet."""

    options = (
        option("out", "--out", "-o", help="Also write a sheet of them here.", unset="none"),
        OVERWRITE,
    )

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any], report: Report) -> None:
        """See `Output`."""
        sheet = Path(extra["out"]) if extra["out"] else None
        if sheet is not None:
            check_place(sheet)
            check_free(sheet, overwrite=extra["overwrite"])
        result = session.run(app, inputs)
        print_rows(result.rows, report.as_json)
        if sheet is not None:
            with atomic_write(sheet) as draft:
                result.sheet().save(draft)
            # with --json, stdout lists only the resulting pictures
            report.note(str(sheet)) if report.as_json else report.result(sheet, {})


class Film(Output):
    """A film, and beside it a settings file from which it can be painted again.

    Each frame is saved as soon as it is painted: in the folder that --out names, or in NAME.frames, which is
    removed after the film is written.
    """

    options = (
        option(
            "out", "--out", "-o", help="A film (.gif .webp .mp4), or a folder of frames", unset=".gif here"
        ),
        OVERWRITE,
        option("resume", "--resume", kind=bool, help="Go on with a film that was interrupted.", unset=""),
    )

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any], report: Report) -> None:
        """See `Output`."""
        from danqing.apps import FrameFolder, film_writer, keep_frames, settings_text

        out, settings = extra["out"], settings_text(inputs)
        place = Path(out).expanduser() if out else FOLDER / f"{slug(inputs.prompt)}-{inputs.seed}.gif"
        is_folder = film_writer(place) is None
        replace = bool(out) and not is_folder and check_free(place, overwrite=extra["overwrite"])
        folder = FrameFolder(place if is_folder else place.with_suffix(".frames"))
        folder.check(settings, resume=extra["resume"])
        if not is_folder:
            check_writable(place)
        folder.start(settings)
        go_on = f"danqing animate --settings {folder.settings} --out {place} --resume goes on"
        doing = f"painting {inputs.frames} frames, seed {inputs.seed}"
        counting = report.counting(folder, inputs.frames, f"frames are in {folder.path}", go_on)
        with counting, report.working(inputs.model, doing) as progress:
            frames = list(session.stream(keep_frames(app, folder), inputs, progress))
        film = place if is_folder else _film(folder, place, inputs.fps, settings, overwrite=replace)
        folder.finish()
        settings_file = folder.settings if is_folder else film.with_name(f"{film.stem}_settings.txt")
        seconds = round(sum(frame.info.seconds for frame in frames), 3)
        facts = {**picture_facts(frames[0]), "seconds": seconds, "frames": len(frames), "fps": inputs.fps}
        report.result(film, {**facts, "settings": str(settings_file)}, report.warn_of_dropped(frames))
        report.note(f"danqing animate --settings {settings_file} makes it again")


class Adapter(Output):
    """The adapter that was trained, and the command that paints with it."""

    options = (option("out", "--out", "-o", help="Folder of what was learned", unset="adapters/ here"),)

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any], report: Report) -> None:
        """See `Output`."""
        out, start = extra["out"], perf_counter()
        if out is not None:
            session.new_adapters = Path(out)
        check_writable(session.new_adapters / f"{inputs.name}.safetensors")
        with report.working(inputs.model, f"learning <{inputs.name}>") as progress:
            path = session.run(app, inputs, progress)
        facts = {"name": inputs.name, "model": inputs.model, "seconds": round(perf_counter() - start, 3)}
        report.result(path, facts)
        report.note(f"paint it with: danqing paint {_prompt_for(inputs.name, path, out)}")


class Lineage(Output):
    """A labelled sheet of pictures of the same prompt by several models."""

    options = (
        option("out", "--out", "-o", help="The sheet: a file or a folder/.", unset="paintings/ here"),
        OVERWRITE,
        option("singles", "--singles", help="Also save each picture into this folder.", unset="none"),
    )

    def run(self, app: AnyApp, inputs: Any, session: Session, extra: dict[str, Any], report: Report) -> None:
        """See `Output`."""
        from danqing.apps import sheet

        seed, singles = inputs.seed, Path(extra["singles"]) if extra["singles"] else None
        files = output_files(extra["out"], f"{inputs.prompt} lineage", [seed], overwrite=extra["overwrite"])
        if singles is not None:
            check_writable(singles / f"{seed}.png")
        generations = []
        for one in session.stream(app, inputs, lambda progress: report.note(progress.message)):
            generations.append(one)
            report.note("  ".join(one.label))
            if singles is not None:
                path = singles / f"{one.card.year}-{one.card.name}-{seed}.png"
                report.picture(one.picture.save(path, overwrite=False), one.picture)
        image = sheet(generations)
        place = files.save_image(files.pictures[0], image)
        size = {"width": image.width, "height": image.height}
        dropped = report.warn_of_dropped(one.picture for one in generations)
        report.result(place, {"seed": seed, **size, "grid": True}, dropped)


OUTPUTS: dict[str, Output] = {
    "pictures": Pictures(),
    "lines": Lines(),
    "rows": Rows(),
    "search": Search(),
    "film": Film(),
    "adapter": Adapter(),
    "lineage": Lineage(),
}


def _film(folder: FrameFolder, place: Path, fps: float, settings: str, *, overwrite: bool) -> Path:
    """Write the film of all frames in a folder, and its settings file; then remove the folder."""
    from danqing.apps import save_film

    film = save_film(folder.frames(len(folder)), place, fps, overwrite=overwrite)
    with atomic_write(film.with_name(f"{film.stem}_settings.txt")) as draft:
        draft.write_text(settings, encoding="utf-8")
    folder.remove()
    return film


def _grid(pictures: list[Picture], inputs: PictureFiles) -> Picture:
    from danqing.apps import grid_of

    whole = isinstance(inputs, ResolvedInputs) and pictures[0].info.app == "paint"
    return grid_of(pictures, inputs.resolved_brief if whole and isinstance(inputs, ResolvedInputs) else None)


def _model(inputs: Any) -> str:
    return str(inputs.resolved_brief.model if isinstance(inputs, ResolvedInputs) else inputs.model)


def _painting(app: AnyApp, inputs: Any) -> str:
    """The text beside the progress bar."""
    if not isinstance(inputs, ResolvedInputs):
        return f"painting {app.name}" + (f", seed {inputs.seed}" if hasattr(inputs, "seed") else "")
    brief = inputs.resolved_brief
    number = f"{brief.count} pictures" if brief.count > 1 else "1 picture"
    return f"painting {number}, seed {brief.seed}, {brief.width}x{brief.height}"


def _settings(pictures: list[Picture]) -> str:
    """The settings that painted the pictures, and the time that it took."""
    first, last = pictures[0], pictures[-1]
    several = len(pictures) > 1
    seeds = f"{first.brief.seed} to {last.brief.seed}" if several else f"{first.brief.seed}"
    seconds = sum(picture.info.seconds for picture in pictures) / len(pictures)
    how = f", {first.brief.steps} steps of {first.brief.sampler}" if first.brief.sampler else ""
    return f"seed {seeds}, {seconds:.1f} s{' each' if several else ''}{how}"


def _prompt_for(name: str, path: Path, out: str | None) -> str:
    """The arguments that paint the subject: by name in the default folder, otherwise by the file."""
    if out is None:
        return f'"a <{name}>"'
    from danqing.tuning.adapter_files import read_adapter

    return f'"a {read_adapter(path).trigger}" --adapter {quote(str(path))}'
