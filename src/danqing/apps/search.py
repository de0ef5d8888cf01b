"""Find pictures by words or by another picture, by the cosines of CLIP (arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from danqing.apps.gather import Unread, opened, pictures_in, shown
from danqing.core.errors import BadBrief
from danqing.core.images import grid
from danqing.core.sources import Place, read_source
from danqing.families.clip import Critic

THUMB = 192  # pixels of a picture on a contact sheet


@dataclass(frozen=True)
class Hit:
    """A picture and its cosine in [-1, 1] with what is looked for."""

    file: Path
    score: float


@dataclass(frozen=True)
class Search:
    """What was found, best first, and the files that could not be read."""

    hits: tuple[Hit, ...]
    unread: tuple[Unread, ...]

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
    places: Iterable[str | Path],
    critic: Critic,
    words: str = "",
    like: Place | None = None,
    top: int | None = None,
) -> Search:
    """The pictures at `places`, files and folders, that answer best to `words`, or look most like a picture.

    Equal scores keep the order of the names. top: at most so many; None is all.

    Raises:
        BadBrief: neither words nor a picture are given, or both, or no pictures are there.
        BadPicture: the picture to compare with cannot be read.
    """
    if bool(words.strip()) == (like is not None):
        raise BadBrief("say what to look for: words, or a picture with --like; one of them")
    files = pictures_in(places)
    with torch.no_grad():
        wanted = critic.words([words]) if like is None else critic.pictures(_shown(like, critic))
        found, embeddings, unread = _embedded(files, critic)
    scores = (embeddings @ wanted.T)[:, 0]
    order = scores.argsort(descending=True, stable=True).tolist()[:top]
    return Search(tuple(Hit(found[k], float(scores[k])) for k in order), unread)


def _shown(place: Place, critic: Critic) -> Tensor:
    return shown(read_source(place).image, critic.sight.side)


def _embedded(files: Sequence[Path], critic: Critic) -> tuple[list[Path], Tensor, tuple[Unread, ...]]:
    """The readable files, their embeddings [n d], and the others. One picture is in memory at a time.

    Nothing is kept for the next search: an embedding costs about what reading the file does.
    """
    found: list[Path] = []
    rows: list[Tensor] = [torch.empty(0, critic.model.config.projection_dim)]
    unread: list[Unread] = []
    for each in opened(files):
        if isinstance(each, Unread):
            unread.append(each)
            continue
        found.append(each[0])
        rows.append(critic.pictures(shown(each[1], critic.sight.side)))
    return found, torch.cat(rows), tuple(unread)
