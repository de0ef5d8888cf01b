"""Pictures that a request names by id; clients never learn the paths of their files."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from danqing.core.errors import BadPicture
from danqing.core.image_ref import ImageRef
from danqing.core.source_image import SourceImage, read_source


def read_as(path: Path, name: str) -> SourceImage:
    """Read a picture as `read_source` does; messages call it `name`. Raises BadPicture."""
    place = repr(str(path))
    try:
        source = read_source(path)
    except BadPicture as error:
        raise BadPicture(str(error).replace(place, name)) from None
    return replace(source, name=name, notes=tuple(note.replace(place, name) for note in source.notes))


class StoredImage(ImageRef):
    """A picture of the gallery or an upload; `name` is its id."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path, name)
        self._file = path

    @cached_property
    def source(self) -> SourceImage:
        """Read the picture; see `ImageRef.source`."""
        return read_as(self._file, self.name)
