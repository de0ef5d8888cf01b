"""A picture in a request: a path in a shell, pixels in Python, an id of a gallery on a server.

The code that validates a request decides what a text means, so a server never opens a path from a client:

    inputs.model_validate(values, context={"image_lookup": gallery.image_ref})
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from danqing.core.picture import Picture
from danqing.core.source_image import Place, SourceImage, read_source


class ImageRef:
    """A reference to a picture, which is read at its first use and only once.

    name: the name in messages and metadata, such as its path.
    """

    def __init__(self, place: Place, name: str = "") -> None:
        self._place = place
        self.name = name or (str(place) if isinstance(place, str | Path) else "picture")

    @cached_property
    def source(self) -> SourceImage:
        """The picture, upright and in RGB or RGBA.

        Raises:
            BadPicture: it cannot be read.
        """
        return read_source(self._place)

    @property
    def path(self) -> Path | None:
        """The path of its file or folder; None for pixels."""
        return Path(self._place) if isinstance(self._place, str | Path) else None

    def __repr__(self) -> str:
        return f"ImageRef({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageRef) and (self.name, self._place) == (other.name, other._place)

    def __hash__(self) -> int:
        return hash(self.name)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        names = core_schema.plain_serializer_function_ser_schema(
            lambda ref: ref.name, return_schema=core_schema.str_schema()
        )
        return core_schema.with_info_plain_validator_function(_image_ref, serialization=names)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "image", "minLength": 1}


ImageLookup = Callable[[str], ImageRef]
"""Text of a request -> the picture. Raises ValueError, with a reason, if there is none."""


def _image_ref(value: object, info: ValidationInfo) -> ImageRef:
    if isinstance(value, ImageRef):
        return value
    if isinstance(value, Image.Image | Picture):
        return ImageRef(value)
    if isinstance(value, Path) or (isinstance(value, str) and value):
        lookup: ImageLookup = (info.context or {}).get("image_lookup", ImageRef)
        return lookup(str(value))
    raise ValueError("give a picture: a path, a PIL image or a Picture")
