"""Many pictures at once, from files and folders: one that cannot be read is told and stops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from danqing.apps.looking import seen
from danqing.core.errors import BadBrief, BadPicture
from danqing.core.images import squared
from danqing.core.sources import SUFFIXES, read_source


@dataclass(frozen=True)
class Unread:
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


def opened(files: Sequence[Path]) -> Iterator[tuple[Path, Image.Image] | Unread]:
    """Every file in order, as a picture or as what is wrong with it."""
    for file in files:
        try:
            yield file, read_source(file).image
        except BadPicture as error:
            yield Unread(file, str(error))


def shown(picture: Image.Image, side: int) -> Tensor:
    """A picture on white in a square of `side`, [1 3 side side] in [-1, 1]: small, so that many fit.

    An enlarged picture tells a network nothing more, so a small one keeps its own size.
    """
    large = squared(seen(picture))
    return F.interpolate(large, (side,) * 2, mode="area") if large.shape[-1] > side else large


def _below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
