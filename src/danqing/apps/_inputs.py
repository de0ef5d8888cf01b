"""What the inputs of apps have in common: which field groups they use, and how a brief is made of them."""

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

if TYPE_CHECKING:  # which needs numpy
    from danqing.apps._mask_image import Mask

SplitAtCommas = BeforeValidator(lambda value: split_commas(value) if isinstance(value, str) else value)
"""Text such as cat,dog as its parts, as a command line gives it."""
SplitNumbers = BeforeValidator(
    lambda value: split_commas(half_width(value)) if isinstance(value, str) else value
)
"""Text such as 0,0.5,1 as its parts; digits of a Chinese keyboard are digits."""

REDRAWN_PHOTO = (
    "it keeps places and colours and draws the rest anew; to keep the photo, danqing stylize renders it,"
    " and --model sd15 redraws it (--anyway for no warning)"
)


class AppInputs(FrozenModel):
    """The inputs of an app.

    needs: what the painter must be able to do.
    positional: the fields that a command and a function take by position, in this order.
    switches: flags of earlier versions, and the fields that each stands for.
    photo_fields: the pictures that may be photos.
    photo_advice: what a model of drawings makes of a photo, and the way out; empty where there is no harm.
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
        """What the user should know before the work begins, a line each."""
        return self._notes

    def add_notes(self, *notes: str) -> None:
        """Add lines to `notes`."""
        self._notes = (*self._notes, *notes)

    @property
    def required_skills(self) -> frozenset[Can]:
        """What the painter must be able to do for these values: `needs`, and perhaps more."""
        return self.needs

    def check(self, card: Card) -> None:
        """Say in one line what a model cannot do.

        Raises:
            BadBrief: the model lacks a skill that the app needs.
        """
        missing = sorted(self.required_skills - card.can)
        if missing:
            skills = ", ".join(sorted(card.can)) or "nothing"
            raise BadBrief(
                f"model {card.name!r} cannot {missing[0]} (it can: {skills}): choose another --model"
            )

    def image_refs(self) -> list[ImageRef]:
        """The pictures that are named, in the order of the fields."""
        return self._refs(type(self).model_fields)

    def start_pictures(self) -> list[ImageRef]:
        """The pictures that it starts from, which may be photos."""
        return self._refs(self.photo_fields)

    def _refs(self, fields: Iterable[str]) -> list[ImageRef]:
        values = (getattr(self, name) for name in fields)
        groups = [value if isinstance(value, tuple) else (value,) for value in values]
        plain = [ref for group in groups for ref in group if isinstance(ref, ImageRef)]
        return plain + [ref.image for group in groups for ref in group if isinstance(ref, WeightedImage)]

    def check_pictures(self) -> None:
        """Say in one line what is wrong with the pictures that are named, before a model is opened.

        Raises:
            BadBrief: one cannot be used for what it is named.
        """

    def metadata(self, **values: Any) -> dict[str, Any]:
        """The fields that were given, and further `values`, as a picture's metadata keeps them."""
        return {**self.model_dump(mode="json", exclude_unset=True), **values}


def with_switches(inputs: type[AppInputs], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with the fields that the switches of earlier versions stand for."""
    fields = {name: value for name, value in values.items() if name not in inputs.switches}
    for switch, meaning in inputs.switches.items():
        if values.get(switch):
            fields.update(meaning)
    return fields


class PictureFiles(AppInputs):
    """How the pictures of a request are named and saved.

    grid_only: of several pictures, only the grid is saved.
    """

    grid_only: ClassVar[bool] = False

    @property
    def marks(self) -> tuple[str, ...]:
        """What tells the pictures apart in the names of their files, one for each."""
        raise NotImplementedError

    def file_title(self, app: str) -> str:
        """The words after which the files are named."""
        return f"{PurePath(self.image_refs()[0].name).stem} {app}"

    @property
    def transparent(self) -> bool:
        """Whether the pictures may have transparency."""
        raise NotImplementedError


class ResolvedInputs(PictureFiles):
    """The inputs of an app that paints one brief, which is resolved as soon as they are parsed."""

    _resolved: ResolvedBrief = PrivateAttr()
    _expanded: list[ExpandedBrief] = PrivateAttr()

    def set_resolved(self, brief: ResolvedBrief) -> None:
        """Decide what will be painted. Raises BadBrief: it cannot be."""
        self._resolved, self._expanded = brief, expand(brief)

    @property
    def is_resolved(self) -> bool:
        """Whether `set_resolved` was called."""
        return hasattr(self, "_resolved")

    @property
    def resolved_brief(self) -> ResolvedBrief:
        """What will be painted."""
        return self._resolved

    @property
    def expanded_briefs(self) -> list[ExpandedBrief]:
        """The same, picture by picture."""
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
        """By the background."""
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
        """The brief of what was given, of this app's own defaults, and of `changes`."""
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
        """Also note how fast the model paints by itself, where that is a guess and nobody chose."""
        super().check(card)
        if card.note and card.note not in self.notes and not {"steps", "guidance"} <= self.model_fields_set:
            self.add_notes(card.note)

    @property
    def marks(self) -> tuple[str, ...]:
        """The seed."""
        return (str(self.seed),)

    @property
    def transparent(self) -> bool:
        """By the background; where nobody chose one, as the picture to start from."""
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
        """Read the mask, and note what is repainted. Raises BadBrief: it cannot be meant."""
        if self.mask is not None:
            self.add_notes(self.read_mask().note)

    def read_mask(self) -> Mask:
        """The mask that is given."""
        from danqing.apps._mask_image import read_mask

        assert self.mask is not None
        mask, picture = self.mask.source.image, self.image.source.image
        return read_mask(mask, picture, repr(self.mask.name), invert=self.invert_mask)


def optional_words(description: str = "what to paint there; the picture's own words if empty") -> Any:
    """The field `prompt` of an app that can do without."""
    return Field(default="", max_length=PROMPT_MAX, description=description)


Cell = Field(default=None, ge=1, le=64, description="which cell of a grid, 1 is at the top left")
