"""Copies pictures out of the gallery, with or without their metadata."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from danqing.core.files import add_file
from danqing.studio.browse import Filter
from danqing.studio.errors import NotThere
from danqing.studio.store import Store
from danqing.studio.tables import PictureRow

_PAGE = 200


def bare_png(path: Path) -> bytes:
    """A PNG of the same pixels, without metadata. Raises NotThere."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            image.load()
            pixels = Image.frombytes(image.mode, image.size, image.tobytes())
    except FileNotFoundError:
        raise NotThere("the file of this picture is gone: restore it from a backup") from None
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    return buffer.getvalue()


def export_pictures(
    store: Store, which: Filter, folder: Path, name: Callable[[PictureRow], str], *, bare: bool
) -> Iterator[Path]:
    """Copy the pictures of a filter, newest first. Yields the path of each copy; no file is overwritten.

    name: maps a picture to the name of its file, without the ending.
    bare: whether to write PNGs without metadata; films are copied unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for row in _rows(store, which):
        source = store.gallery.path(row.file)
        stripped = bare and not row.is_film
        ending = "png" if stripped else row.format
        yield add_file(folder / f"{name(row)}.{ending}", partial(_copy, source, stripped))


def _copy(source: Path, stripped: bool, target: Path) -> None:
    if stripped:
        target.write_bytes(bare_png(source))
    else:
        shutil.copyfile(source, target)


def _rows(store: Store, which: Filter) -> Iterator[PictureRow]:
    """All pictures of a filter; its limit is ignored."""
    before = which.before
    while page := store.browser.page(replace(which, before=before, limit=_PAGE)):
        yield from page
        before = page[-1].id
