"""Where pictures go: named after their words and their seed, never over another picture."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from danqing.core.errors import BadBrief, BadPicture
from danqing.core.files import check_writable
from danqing.core.picture import writer

FOLDER = Path("paintings")


@dataclass(frozen=True)
class Places:
    """One file per picture, and one for the sheet of all when there are several."""

    pictures: tuple[Path, ...]
    sheet: Path | None = None


def places_for(out: str | None, words: str, marks: Sequence[object], *, transparent: bool = False) -> Places:
    """The files for pictures named after `words` and told apart by their marks, such as their seeds.

    out: None is `paintings/` here; a folder (it exists, ends with /, or has no ending) gets names of our own;
    a file is written as named, replacing what was there, and with several pictures becomes their sheet.

    Raises:
        BadBrief: the ending of `out` is not a picture's, or is JPEG where transparency is asked, or two marks
            are the same.
        DanqingError: a place cannot be written.
    """
    # os.path, not pathlib: it stays calm on ~nobody and on names too long, which check_writable tells better
    place = FOLDER if out is None else Path(os.path.expanduser(out))  # noqa: PTH111
    folder = out is None or out.endswith(("/", "\\")) or place.suffix == "" or os.path.isdir(place)  # noqa: PTH112
    if len(set(marks)) < len(marks):
        twice = next(mark for k, mark in enumerate(marks) if mark in marks[:k])
        raise BadBrief(f"{twice} is asked for twice, and would be one file: leave one out")
    base = place / f"{slug(words)}.png" if folder else place
    check_place(base, transparent=transparent)
    if len(marks) == 1 and not folder:
        return Places((base,))
    singles = tuple(_free(base.with_stem(f"{base.stem}-{mark}")) for mark in marks)
    if len(marks) == 1:
        return Places(singles)
    return Places(singles, _free(base.with_stem(f"{base.stem}-{marks[0]}-grid")) if folder else base)


def check_place(place: Path, *, transparent: bool = False) -> None:
    """Find out now, not after minutes, that a picture cannot be written to `place`.

    Raises:
        BadBrief: its ending is not a picture's, or is JPEG where transparency is asked.
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


def _free(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... that does not exist."""
    candidate, k = path, 1
    while candidate.exists():
        k += 1
        candidate = path.with_stem(f"{path.stem}-{k}")
    return candidate
