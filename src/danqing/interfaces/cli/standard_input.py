"""Standard input as a prompt or a picture: `-`."""

from __future__ import annotations

import atexit
import sys
import tempfile
from pathlib import Path

from danqing.core.errors import BadBrief, BadPicture
from danqing.core.image_ref import ImageRef

DASH = "-"


class StandardInput:
    """Standard input, which - names in a command, and which can be read only once."""

    def __init__(self) -> None:
        self._used = False
        self._image: ImageRef | None = None

    def text(self) -> str:
        """Read all of it as text.

        Raises:
            BadBrief: it was read before, or is not UTF-8.
        """
        try:
            return self._read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise BadBrief("standard input is not text (UTF-8): convert it first") from None

    def image(self, name: str) -> ImageRef:
        """The picture at a path, or in standard input if `name` is -.

        Raises:
            BadPicture: standard input is empty.
        """
        if name != DASH:
            return ImageRef(name)
        if self._image is None:
            self._image = self._read_image()
        return self._image

    def _read_image(self) -> ImageRef:
        data = self._read()
        if not data:
            raise BadPicture("standard input is empty: send a picture, such as danqing describe - < cat.png")
        with tempfile.NamedTemporaryFile(prefix="danqing-", suffix=".stdin", delete=False) as file:
            file.write(data)
        atexit.register(Path(file.name).unlink, missing_ok=True)
        return ImageRef(Path(file.name), name=DASH)

    def _read(self) -> bytes:
        if self._used:
            raise BadBrief("- is given twice, but standard input holds one thing: name a file for the other")
        self._used = True
        return sys.stdin.buffer.read() if sys.stdin is not None else b""
