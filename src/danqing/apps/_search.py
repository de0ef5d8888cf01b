"""Searches pictures by a text or by another picture, with CLIP (arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from danqing.apps._image_files import UnreadableFile, pictures_in, read_pictures
from danqing.apps._zero_shot import ImageTextScorer, pixels_on_white
from danqing.core.errors import BadBrief
from danqing.core.image_ref import ImageRef
from danqing.core.images import grid
from danqing.core.source_image import read_source
from danqing.families.clip import ClipScorer

THUMB = 192  # side of a picture on a contact sheet in pixels


@dataclass(frozen=True)
class Hit:
    """A picture and its score: CLIP's cosine in [-1, 1], plus the judge's bonus for its concepts."""

    columns: ClassVar[tuple[str, ...]] = ("score",)

    file: Path
    score: float

    def record(self) -> dict[str, Any]:
        """A JSON record with file and score."""
        return {"file": str(self.file), "score": round(self.score, 4)}

    def cells(self) -> list[tuple[str, ...]]:
        """The cells of its row in a table with the header `columns`."""
        return [(f"{self.score:.3f}",)]


@dataclass(frozen=True)
class SearchResult:
    """The pictures, best first, and the files that could not be read."""

    hits: tuple[Hit, ...]
    unreadable: tuple[UnreadableFile, ...]

    @property
    def rows(self) -> list[Hit | UnreadableFile]:
        """All hits, and then all unreadable files."""
        return [*self.hits, *self.unreadable]

    def sheet(self) -> Image.Image:
        """One sheet of the pictures, row by row.

        Raises:
            BadBrief: there are none.
        """
        if not self.hits:
            raise BadBrief("there is nothing to put on a sheet: search another folder")
        cells = []
        for hit in self.hits:
            picture = read_source(hit.file).image
            picture.thumbnail((THUMB, THUMB))
            cell = Image.new("RGB", (THUMB, THUMB), "white")
            place = (THUMB - picture.width) // 2, (THUMB - picture.height) // 2
            cell.paste(picture, place, picture if picture.mode == "RGBA" else None)
            cells.append(cell)
        return grid(cells)


def search_by_words(
    places: Iterable[ImageRef], scorer: ImageTextScorer, words: str, top: int | None = None
) -> SearchResult:
    """The pictures at `places` (files and folders) that match `words` best.

    Pictures of equal score are sorted by name.

    top: the largest number of pictures; None means all.

    Raises:
        BadBrief: there are no words or no pictures.
    """
    if not words.strip():
        raise BadBrief("say what to look for: words, or a picture with --like")
    files = pictures_in(places)
    return _rank(files, scorer.score_function([words]), top)


def search_by_picture(
    places: Iterable[ImageRef], scorer: ClipScorer, like: ImageRef, top: int | None = None
) -> SearchResult:
    """The pictures at `places` that are most similar to the picture `like`. See `search_by_words`.

    Raises:
        BadBrief: there are no pictures.
        BadPicture: `like` cannot be read.
    """
    target = scorer.image_embeddings(pixels_on_white(like.source.image))
    return _rank(pictures_in(places), lambda pixels: scorer.image_embeddings(pixels) @ target.T, top)


@torch.no_grad()
def _rank(files: Sequence[ImageRef], score: Callable[[Tensor], Tensor], top: int | None) -> SearchResult:
    """Score and sort the files. One picture is in memory at a time; there is no cache."""
    hits: list[Hit] = []
    unreadable: list[UnreadableFile] = []
    for each in read_pictures(files):
        if isinstance(each, UnreadableFile):
            unreadable.append(each)
        else:
            file, picture = each
            hits.append(Hit(file, float(score(pixels_on_white(picture)))))
    best = sorted(hits, key=lambda hit: -hit.score)
    return SearchResult(tuple(best[:top]), tuple(unreadable))
