"""The base classes of the inputs of apps: their field groups, and how a brief is made from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BeforeValidator, Field, PrivateAttr

from danqing.apps._expand import ExpandedBrief, expand
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Can, Card
from danqing.core.control import WeightedImage
from danqing.core.errors import BadBrief
from danqing.core.field_groups import (
    PROMPT_MAX,
    AdapterChoice,
    Anyway,
    Background,
    Count,
    Fast,
    Midjourney,
    ModelChoice,
    RefinerChoice,
    Sampling,
    SeedChoice,
    Size,
    Tile,
    VAEChoice,
    Words,
    split_commas,
)
from danqing.core.half_width import half_width
from danqing.core.image_ref import ImageRef
from danqing.core.request import FrozenModel

if TYPE_CHECKING:  # it needs numpy
    from danqing.apps._mask_image import Mask

SplitAtCommas = BeforeValidator(lambda value: split_commas(value) if isinstance(value, str) else value)
"""Splits a text of a command line such as cat,dog at its commas."""
SplitNumbers = BeforeValidator(
    lambda value: split_commas(half_width(value)) if isinstance(value, str) else value
)
"""Splits a text such as 0,0.5,1 at its commas; full-width digits are read too."""

REDRAWN_PHOTO = (
    "it keeps places and colours and draws the rest anew; to keep the photo, danqing stylize renders it,"
    " and --model sd15 redraws it (--anyway for no warning)"
)


class AppInputs(FrozenModel):
    """The inputs of an app.

    needs: the capabilities that the painter must have.
    positional: the fields that a command and a function take by position, in this order.
    switches: flag of an earlier version -> the fields that it sets.
    photo_fields: the fields of pictures that may be photos.
    photo_advice: a warning for a photo in a model of drawings, with a better way; empty for no warning.
    """

    GROUP: ClassVar[str] = "app"
    needs: ClassVar[frozenset[Can]] = frozenset()
    positional: ClassVar[tuple[str, ...]] = ("image", "prompt")
    switches: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    photo_fields: ClassVar[tuple[str, ...]] = ("image",)
    photo_advice: ClassVar[str] = ""

    _notes: tuple[str, ...] = PrivateAttr(default=())

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines to show to the user before the work begins."""
        return self._notes

    def add_notes(self, *notes: str) -> None:
        """Add lines to `notes`."""
        self._notes = (*self._notes, *notes)

    @property
    def required_skills(self) -> frozenset[Can]:
        """The capabilities that the painter needs for these values: `needs`, and perhaps more."""
        return self.needs

    def check(self, card: Card) -> None:
        """Check that a model has the capabilities that the app needs.

        Raises:
            BadBrief: a capability is missing.
        """
        missing = sorted(self.required_skills - card.can)
        if missing:
            skills = ", ".join(sorted(card.can)) or "nothing"
            raise BadBrief(
                f"model {card.name!r} cannot {missing[0]} (it can: {skills}): choose another --model"
            )

    def image_refs(self) -> list[ImageRef]:
        """The pictures in these inputs, in the order of the fields."""
        return self._refs(type(self).model_fields)

    def start_pictures(self) -> list[ImageRef]:
        """The input pictures that may be photos."""
        return self._refs(self.photo_fields)

    def _refs(self, fields: Iterable[str]) -> list[ImageRef]:
        values = (getattr(self, name) for name in fields)
        groups = [value if isinstance(value, tuple) else (value,) for value in values]
        plain = [ref for group in groups for ref in group if isinstance(ref, ImageRef)]
        return plain + [ref.image for group in groups for ref in group if isinstance(ref, WeightedImage)]

    def check_pictures(self) -> None:
        """Check the input pictures before a model is opened.

        Raises:
            BadBrief: a picture cannot be used for its field.
        """

    def metadata(self, **values: Any) -> dict[str, Any]:
        """The fields that the user has set, and further `values`, for the metadata of a picture."""
        return {**self.model_dump(mode="json", exclude_unset=True), **values}


def with_switches(inputs: type[AppInputs], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with each switch of earlier versions replaced by the fields that it sets."""
    fields = {name: value for name, value in values.items() if name not in inputs.switches}
    for switch, meaning in inputs.switches.items():
        if values.get(switch):
            fields.update(meaning)
    return fields


class PictureFiles(AppInputs):
    """How the pictures of a request are named and saved.

    grid_only: whether, of several pictures, only the grid is saved.
    """

    grid_only: ClassVar[bool] = False

    @property
    def marks(self) -> tuple[str, ...]:
        """The part of the file name that differs between the pictures, one for each."""
        raise NotImplementedError

    def file_title(self, app: str) -> str:
        """The text for the names of the files."""
        return f"{PurePath(self.image_refs()[0].name).stem} {app}"

    @property
    def transparent(self) -> bool:
        """Whether the pictures may have transparency."""
        raise NotImplementedError


class ResolvedInputs(PictureFiles):
    """The inputs of an app that paints one brief, which is resolved when they are parsed."""

    _resolved: ResolvedBrief = PrivateAttr()
    _expanded: list[ExpandedBrief] = PrivateAttr()

    def set_resolved(self, brief: ResolvedBrief) -> None:
        """Set the brief to paint. Raises BadBrief if its prompt or adapters are wrong."""
        self._resolved, self._expanded = brief, expand(brief)

    @property
    def is_resolved(self) -> bool:
        """Whether `set_resolved` was called."""
        return hasattr(self, "_resolved")

    @property
    def resolved_brief(self) -> ResolvedBrief:
        """The brief to paint."""
        return self._resolved

    @property
    def expanded_briefs(self) -> list[ExpandedBrief]:
        """The briefs of the single pictures."""
        return self._expanded

    @property
    def marks(self) -> tuple[str, ...]:
        """The seeds."""
        return tuple(map(str, self.resolved_brief.seeds))

    def file_title(self, app: str) -> str:  # noqa: ARG002
        """The prompt."""
        return self.resolved_brief.prompt

    @property
    def transparent(self) -> bool:
        """Whether the background is transparent."""
        return self.resolved_brief.background == "transparent"


class PaintInputs(
    Background,
    AdapterChoice,
    Midjourney,
    Tile,
    Sampling,
    Size,
    SeedChoice,
    RefinerChoice,
    VAEChoice,
    ModelChoice,
    Words,
    PictureFiles,
):
    """The inputs of an app that paints one result."""

    def brief(self, **changes: Any) -> Brief:
        """The brief from these inputs, the defaults of the app, and `changes`."""
        fields, plain = type(self).model_fields, Brief.model_fields
        shared = [name for name in fields if name in plain]
        own_defaults = {name for name in shared if fields[name].default != plain[name].default}
        values = {
            name: getattr(self, name) for name in shared if name in self.model_fields_set | own_defaults
        }
        names: dict[str, Any] = {
            name: str(value.name) for name, value in values.items() if isinstance(value, ImageRef)
        }
        for name in ("control", "ip_image"):
            if name in values:
                names[name] = tuple(map(str, values[name]))
        return Brief.of(**{**values, **names, **changes})

    def check(self, card: Card) -> None:
        """As `AppInputs.check`; also adds the note of the card, unless the user set steps and guidance."""
        super().check(card)
        if card.note and card.note not in self.notes and not {"steps", "guidance"} <= self.model_fields_set:
            self.add_notes(card.note)

    @property
    def marks(self) -> tuple[str, ...]:
        """The seed."""
        return (str(self.seed),)

    @property
    def transparent(self) -> bool:
        """Whether the background, or without a choice that of the input picture, is transparent."""
        if "background" in self.model_fields_set:
            return self.background == "transparent"
        return any(ref.source.image.mode == "RGBA" for ref in self.image_refs()[:1])


class GridInputs(Fast, Count, PaintInputs):
    """The inputs of an app that paints several pictures, one for each seed."""

    @property
    def marks(self) -> tuple[str, ...]:
        """The seeds."""
        return tuple(str((self.seed or 0) + k) for k in range(self.count))


class PictureInputs(Anyway, GridInputs):
    """The inputs of an app that starts from a picture."""

    image: ImageRef = Field(description="the picture to start from")


class MaskInputs(PictureInputs):
    """The inputs of an app that repaints a part of a picture."""

    mask: ImageRef | None = Field(
        default=None, description="a picture of the same size, white or drawn on where to repaint"
    )
    invert_mask: bool = Field(default=False, description="repaint the rest, and keep what the mask marks")

    def check_pictures(self) -> None:
        """Read the mask, and note what is repainted. Raises BadBrief if the mask cannot be used."""
        if self.mask is not None:
            self.add_notes(self.read_mask().note)

    def read_mask(self) -> Mask:
        """The mask of the request."""
        from danqing.apps._mask_image import read_mask

        assert self.mask is not None
        mask, picture = self.mask.source.image, self.image.source.image
        return read_mask(mask, picture, repr(self.mask.name), invert=self.invert_mask)


def optional_words(description: str = "what to paint there; the picture's own words if empty") -> Any:
    """The field `prompt` of an app that does not require one."""
    return Field(default="", max_length=PROMPT_MAX, description=description)


Cell = Field(default=None, ge=1, le=64, description="which cell of a grid, 1 is at the top left")
