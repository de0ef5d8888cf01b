"""How a request names control maps and image prompts. Needs no torch.

A control is a map for a ControlNet, such as `canny=photo.jpg:0.8:0-0.6`. An image prompt is a picture for an
IP-Adapter, such as `photo.jpg:0.6`.
"""

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
from danqing.core.request import FrozenModel

STRENGTH_MAX = 2
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_PICTURE = re.compile(rf"(.+?)(?::({_NUMBER}))?(?::({_NUMBER})-({_NUMBER}))?", re.DOTALL)


class ControlKind(NamedTuple):
    """A kind of control map.

    words: the names of ControlNets for this kind contain one of them.
    computed: whether danqing computes the map from any picture; otherwise the user gives the map itself.
    """

    words: tuple[str, ...]
    computed: bool = False

    def is_for(self, name: str) -> bool:
        """Whether `name`, of a ControlNet or T2I-Adapter, contains one of the `words` of this kind."""
        return any(word in name.lower() for word in self.words)


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
"""Name -> kind. `none` is any map, for a ControlNet that the request names."""
IMAGE_PARTS = ("all", "style", "layout")
"""The parts of a picture that an image prompt may use."""
_ALIASES = {"hed": "softedge", "soft-edge": "softedge", "line-art": "lineart", "openpose": "pose"}


class WeightedImage(FrozenModel):
    """A picture that guides others, with its strength and the steps at which it does.

    strength: 0 has no effect, 1 is the strength in the training of the network that reads it.
    start, end: the first and last step that it guides, as fractions of all steps.
    """

    image: ImageRef
    strength: float = Field(default=1.0, ge=0, le=STRENGTH_MAX)
    start: float = Field(default=0.0, ge=0, lt=1)
    end: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        """Accepts PICTURE, PICTURE:STRENGTH or PICTURE:STRENGTH:START-END, a picture or a mapping."""
        return value if isinstance(value, cls) else _fields_of(value)

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
        return f"{self.image.name}{strength}{part}"


class ImagePromptRef(WeightedImage):
    """A picture as a prompt.

    part: what the prompt takes from it: all, its style or its layout.
    """

    part: str = "all"

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        """Accepts what `WeightedImage` accepts; a text may begin with style= or layout=."""
        part, equals, rest = value.replace("＝", "=").partition("=") if isinstance(value, str) else [""] * 3
        if equals and part.strip().lower() in IMAGE_PARTS:
            fields = _fields_of_text(rest)
            if fields is None:
                raise ValueError("name a picture, as style=photo.jpg, or style=photo.jpg:0.6")
            return {"part": part.strip().lower(), **fields}
        if isinstance(value, Mapping) and value.get("part", "all") not in IMAGE_PARTS:
            raise ValueError(unknown("part of an image prompt", str(value["part"]), IMAGE_PARTS))
        return value if isinstance(value, cls) else _fields_of(value)

    @model_serializer
    def __str__(self) -> str:
        """The text of which it is made again."""
        text = WeightedImage.__str__(self)
        return text if self.part == "all" else f"{self.part}={text}"


class ControlRef(WeightedImage):
    """A control map, or the picture from which it is computed.

    kind: one of `CONTROL_KINDS`.
    """

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        """Accepts KIND= and then a text as of `WeightedImage`, or a mapping of fields."""
        fields = dict(value) if isinstance(value, Mapping) else value
        if isinstance(value, str):
            kind, equals, rest = value.replace("＝", "=").partition("=")
            picture = _fields_of_text(rest) if equals else None
            if picture is None:
                raise ValueError("say what it is, too: canny=photo.jpg, or canny=photo.jpg:0.8")
            fields = {"kind": kind, **picture}
        if isinstance(fields, dict) and isinstance(fields.get("kind"), str):
            kind = fields["kind"].strip().lower()
            fields["kind"] = _ALIASES.get(kind, kind)
            if fields["kind"] not in CONTROL_KINDS:
                raise ValueError(unknown("kind of control", kind, CONTROL_KINDS))
        return fields

    @model_serializer
    def __str__(self) -> str:
        """The text of which it is made again."""
        return f"{self.kind}={WeightedImage.__str__(self)}"


def _fields_of(value: Any) -> Any:
    """The fields of a `WeightedImage`, from a text, a picture or a mapping."""
    if not isinstance(value, str):
        return value if isinstance(value, Mapping) and "image" in value else {"image": value}
    if (fields := _fields_of_text(value)) is None:
        raise ValueError("name a picture, as photo.jpg, or photo.jpg:0.6")
    return fields


def _fields_of_text(text: str) -> dict[str, Any] | None:
    """The fields that a text PICTURE:STRENGTH:START-END holds; None where it names no picture."""
    match = _PICTURE.fullmatch(half_width(text)) if text else None
    if match is None:
        return None
    numbers = zip(("strength", "start", "end"), match.groups()[1:], strict=True)
    return {"image": text[: match.end(1)], **{name: number for name, number in numbers if number is not None}}


def _several(value: Any) -> Any:
    """A list of controls: a single one becomes a list of one, {"canny": picture} a list of its items."""
    if isinstance(value, Mapping) and "kind" not in value:
        return [{"kind": kind, "image": image} for kind, image in value.items()]
    return [value] if isinstance(value, str | ControlRef | Mapping) else value


def _one_or_more(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(form: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "format": form, "minLength": 1})


Controls = Annotated[tuple[Annotated[ControlRef, _text("control")], ...], BeforeValidator(_several)]
ImagePrompts = Annotated[
    tuple[Annotated[ImagePromptRef, _text("weighted-image")], ...], BeforeValidator(_one_or_more)
]
Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]
