"""Find pictures by words, or by another picture, as CLIP sees them (arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from danqing.apps._image_files import UnreadableFile, opened, pictures_in
from danqing.apps._zero_shot import ImageTextScorer, seen
from danqing.core.errors import BadBrief
from danqing.core.images import grid
from danqing.core.sources import Place, read_source
from danqing.families.clip import ClipScorer

THUMB = 192  # pixels of a picture on a contact sheet


@dataclass(frozen=True)
class Hit:
    """A picture and how well it answers: CLIP's cosine in [-1, 1], with the judge's word where it has one."""

    file: Path
    score: float


@dataclass(frozen=True)
class Search:
    """What was found, best first, and the files that could not be read."""

    hits: tuple[Hit, ...]
    unread: tuple[UnreadableFile, ...]

    def sheet(self) -> Image.Image:
        """The pictures that were found on one sheet, in reading order.

        Raises:
            BadBrief: none was found.
        """
        if not self.hits:
            raise BadBrief("nothing was found to put on a sheet: search another folder")
        cells = []
        for hit in self.hits:
            picture = read_source(hit.file).image
            picture.thumbnail((THUMB, THUMB))
            cell = Image.new("RGB", (THUMB, THUMB), "white")
            place = (THUMB - picture.width) // 2, (THUMB - picture.height) // 2
            cell.paste(picture, place, picture if picture.mode == "RGBA" else None)
            cells.append(cell)
        return grid(cells)


def search(
    places: Iterable[str | Path], reader: ImageTextScorer, words: str, top: int | None = None
) -> Search:
    """The pictures at `places`, files and folders, that answer best to `words`.

    Equal scores keep the order of the names. top: at most so many; None is all.

    Raises:
        BadBrief: no words are given, or no pictures are there.
    """
    if not words.strip():
        raise BadBrief("say what to look for: words, or a picture with --like")
    files = pictures_in(places)
    return _ranked(files, reader.reading([words]), top)


def search_like(
    places: Iterable[str | Path], scorer: ClipScorer, like: Place, top: int | None = None
) -> Search:
    """The pictures at `places` that look most like another one. See `search`.

    Raises:
        BadBrief: no pictures are there. BadPicture: the one to compare with cannot be read.
    """
    wanted = scorer.pictures(seen(read_source(like).image))
    return _ranked(pictures_in(places), lambda pixels: scorer.pictures(pixels) @ wanted.T, top)


@torch.no_grad()
def _ranked(files: Sequence[Path], score: Callable[[Tensor], Tensor], top: int | None) -> Search:
    """One picture is in memory at a time; nothing is kept for the next search."""
    hits: list[Hit] = []
    unread: list[UnreadableFile] = []
    for each in opened(files):
        if isinstance(each, UnreadableFile):
            unread.append(each)
        else:
            file, picture = each
            hits.append(Hit(file, float(score(seen(picture)))))
    best = sorted(hits, key=lambda hit: -hit.score)
    return Search(tuple(best[:top]), tuple(unread))
