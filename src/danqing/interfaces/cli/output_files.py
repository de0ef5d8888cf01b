"""Output files of commands: named after prompt and seed, and never overwritten by accident."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from danqing.core.errors import BadBrief, BadPicture
from danqing.core.files import add_file, atomic_write, check_writable
from danqing.core.picture import writer

if TYPE_CHECKING:
    from PIL.Image import Image

    from danqing.core.picture import Picture

FOLDER = Path("paintings")


@dataclass(frozen=True)
class OutputFiles:
    """A file for each picture, and one for the grid if there are several.

    replaced: the file that the user named and that may be overwritten. All others take the first free name of
        path, path-2, path-3, ... when they are saved.
    """

    pictures: tuple[Path, ...]
    grid: Path | None = None
    replaced: Path | None = None

    def save(self, path: Path, picture: Picture) -> Path:
        """Save a picture to a path of `pictures`, or the grid to `grid`. Returns the path that was used."""
        return picture.save(path, overwrite=path == self.replaced)

    def save_image(self, path: Path, image: Image) -> Path:
        """As `save`, for an image without a brief."""
        if path != self.replaced:
            return add_file(path, image.save)
        with atomic_write(path) as draft:
            image.save(draft)
        return path


def output_files(
    out: str | None,
    words: str,
    marks: Sequence[object],
    *,
    transparent: bool = False,
    overwrite: bool = False,
    ending: str = ".png",
) -> OutputFiles:
    """The files for pictures, named after `words` and their marks, such as their seeds.

    out: None for `paintings/` in the working directory; a folder (it exists, ends with /, or has no ending)
        gets generated names; a file is used as named, and for several pictures it is their grid.
    overwrite: see `check_free`.
    ending: of generated names; .png replaces JPEG if the picture is transparent.

    Raises:
        BadBrief: the ending of `out` is not a picture's, or is JPEG for a transparent picture, or two marks
            are the same, or the file exists already.
        DanqingError: a path cannot be written.
    """
    # os.path, not pathlib: it does not raise for ~nobody and too long names, which check_writable reports
    place = FOLDER if out is None else Path(os.path.expanduser(out))  # noqa: PTH111
    folder = out is None or out.endswith(("/", "\\")) or place.suffix == "" or os.path.isdir(place)  # noqa: PTH112
    if len(set(marks)) < len(marks):
        twice = next(mark for k, mark in enumerate(marks) if mark in marks[:k])
        raise BadBrief(f"{twice} is asked for twice, and would be one file: leave one out")
    clear_jpeg = transparent and ending == ".jpg"
    base = place / f"{slug(words)}{'.png' if clear_jpeg else ending}" if folder else place
    check_place(base, transparent=transparent)
    if not folder:
        replaced = base if check_free(base, overwrite=overwrite) else None
        if len(marks) == 1:
            return OutputFiles((base,), replaced=replaced)
    singles = tuple(base.with_stem(f"{base.stem}-{mark}") for mark in marks)
    if len(marks) == 1:
        return OutputFiles(singles)
    if folder:
        return OutputFiles(singles, base.with_stem(f"{base.stem}-{marks[0]}-grid"))
    return OutputFiles(singles, base, replaced)


def check_free(path: Path, *, overwrite: bool) -> bool:
    """Whether a file that the user named may be overwritten; asks on a terminal.

    Raises:
        BadBrief: it exists, `overwrite` is False and there is no terminal.
        typer.Abort: the answer is no.
    """
    if overwrite or not path.exists():
        return overwrite
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadBrief(f"{str(path)!r} is there already: --overwrite replaces it, or choose another name")
    return typer.confirm(f"{path} is there already. Replace it?", abort=True, err=True)


def check_place(place: Path, *, transparent: bool = False) -> None:
    """Check before the work that a picture can be written to `place`.

    Raises:
        BadBrief: its ending is not a picture's, or is JPEG for a transparent picture.
        DanqingError: it cannot be written.
    """
    try:
        writer(place, transparent=transparent)
    except BadPicture as error:
        raise BadBrief(str(error)) from None
    check_writable(place)


def slug(prompt: str, most: int = 48) -> str:
    """`prompt` as a file name: letters and digits of any script, the rest as single dashes."""
    text = unicodedata.normalize("NFKC", prompt).lower()
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return "-".join(kept.split())[:most].strip("-") or "painting"
