"""What a picture shall follow, as a request names it: `canny=photo.jpg:0.8:0-0.6`. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from danqing.core.errors import unknown
from danqing.core.half_width import half_width
from danqing.core.image_ref import ImageRef
from danqing.core.request import Request

STRENGTH_MAX = 2
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_PICTURE = re.compile(rf"(.+?)(?::({_NUMBER}))?(?::({_NUMBER})-({_NUMBER}))?", re.DOTALL)


class ControlKind(NamedTuple):
    """A kind of map.

    words: what the names of ControlNets for it say. computed: whether it is made of any picture; others are
    given as they are.
    """

    words: tuple[str, ...]
    computed: bool = False


CONTROL_KINDS: dict[str, ControlKind] = {
    "canny": ControlKind(("canny",), computed=True),
    "softedge": ControlKind(("softedge", "soft-edge", "soft_edge", "hed", "pidi"), computed=True),
    "lineart": ControlKind(("lineart", "line-art", "line_art"), computed=True),
    "scribble": ControlKind(("scribble", "sketch"), computed=True),
    "depth": ControlKind(("depth", "midas", "zoe")),
    "pose": ControlKind(("pose",)),
    "normal": ControlKind(("normal",)),
    "seg": ControlKind(("seg",)),
    "mlsd": ControlKind(("mlsd",)),
    "tile": ControlKind(("tile",)),
    "none": ControlKind(()),
}
"""By name. What is not computed is a map already; `none` is one for a ControlNet that is named."""
_ALIASES = {"hed": "softedge", "soft-edge": "softedge", "line-art": "lineart", "openpose": "pose"}


class ControlRef(Request):
    """A map that a picture shall follow, or a picture that it is made of.

    kind: one of `CONTROL_KINDS`.
    strength: 0 is not at all, 1 is as the ControlNet learned.
    start, end: the share of the steps between which it is followed.
    """

    kind: str
    image: ImageRef
    strength: float = Field(default=1.0, ge=0, le=STRENGTH_MAX)
    start: float = Field(default=0.0, ge=0, lt=1)
    end: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        """KIND=PICTURE, KIND=PICTURE:STRENGTH or KIND=PICTURE:STRENGTH:START-END, or a mapping of fields."""
        fields = dict(value) if isinstance(value, Mapping) else value
        if isinstance(value, str):
            kind, equals, rest = value.replace("＝", "=").partition("=")
            match = _PICTURE.fullmatch(half_width(rest)) if equals and rest else None
            if match is None:
                raise ValueError("say what it is, too: canny=photo.jpg, or canny=photo.jpg:0.8")
            fields = {"kind": kind, "image": rest[: match.end(1)]}
            numbers = zip(("strength", "start", "end"), match.groups()[1:], strict=True)
            fields |= {name: number for name, number in numbers if number is not None}
        if isinstance(fields, dict) and isinstance(fields.get("kind"), str):
            kind = fields["kind"].strip().lower()
            fields["kind"] = _ALIASES.get(kind, kind)
            if fields["kind"] not in CONTROL_KINDS:
                raise ValueError(unknown("kind of control", kind, CONTROL_KINDS))
        return fields

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"it ends at {self.end:g} and begins at {self.start:g}: begin earlier")
        return self

    @model_serializer
    def __str__(self) -> str:
        """The text of which it is made again."""
        part = f":{self.start:g}-{self.end:g}" if (self.start, self.end) != (0, 1) else ""
        strength = f":{self.strength:g}" if self.strength != 1 or part else ""
        return f"{self.kind}={self.image.name}{strength}{part}"


def _several(value: Any) -> Any:
    """One as a list of one; {"canny": picture} as a list of what it holds."""
    if isinstance(value, Mapping) and "kind" not in value:
        return [{"kind": kind, "image": image} for kind, image in value.items()]
    return [value] if isinstance(value, str | ControlRef | Mapping) else value


_JSON = WithJsonSchema({"type": "string", "format": "control", "minLength": 1})
Controls = Annotated[tuple[Annotated[ControlRef, _JSON], ...], BeforeValidator(_several)]
Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]
