"""Many pictures at once, from files and folders: one that cannot be read is told and stops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from danqing.core.errors import BadBrief, BadPicture
from danqing.core.sources import SUFFIXES, read_source


@dataclass(frozen=True)
class UnreadableFile:
    """A file that is no picture, and why, in a line."""

    file: Path
    why: str


def pictures_in(places: Iterable[str | Path]) -> list[Path]:
    """The files at `places`: a file is itself, a folder is all the pictures in and below it, by name.

    Raises:
        BadBrief: there are none.
    """
    asked = [Path(place).expanduser() for place in places]
    files = [file for place in asked for file in ([place] if not place.is_dir() else _below(place))]
    if not files:
        raise BadBrief(
            f"no pictures in {', '.join(repr(str(place)) for place in asked)}: name another folder"
        )
    return files


def opened(files: Sequence[Path]) -> Iterator[tuple[Path, Image.Image] | UnreadableFile]:
    """Every file in order, as a picture or as what is wrong with it."""
    for file in files:
        try:
            yield file, read_source(file).image
        except BadPicture as error:
            yield UnreadableFile(file, str(error))


def _below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
