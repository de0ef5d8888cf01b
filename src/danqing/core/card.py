"""What a model is and what it can do, as data, so that no code branches on the name of a family."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator

from danqing.core.errors import BadWeights, shorten

_OLD_NAMES = {"grid": "size_multiple", "led_by": "prompt_type"}  # old field name -> field, for old cards


class Can(StrEnum):
    """A capability of a painter that an app may need."""

    WORDS = "words"  # follows a prompt
    NEGATIVE = "negative"  # follows a negative prompt
    ALPHA = "alpha"  # paints an alpha channel
    UPSCALE = "enlarge"  # has a learned upscaler of factor `Card.scale`
    REDRAW = "redraw"  # starts from an input picture
    INPAINT = "inpaint"  # repaints a part of an input picture
    TILE = "tile"  # paints seamless tiles
    LEARN = "learn"  # takes adapters, and can train new ones


class Fast(BaseModel):
    """How a model paints in few steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int
    guidance: float = 1.0
    sampler: str = "lcm"
    adapter: str = Field(default="", description="of its own, attached for that; empty where it needs none")


class Card(BaseModel):
    """Facts about one set of weights. It is the file `card.json` in their folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str = Field(description="the name under which the family is registered")
    summary: str
    paper: str = Field(description="arXiv id")
    year: int
    licence: str
    width: int = Field(description="native width in pixels")
    height: int = Field(description="native height in pixels")
    size_multiple: int = Field(description="native sides are multiples of this")
    scale: int = Field(default=1, description="factor of the learned upscaler, 1 = none")
    steps: int = 25
    guidance: float = 4.0
    redraw_guidance: float | None = Field(
        default=None, description="guidance where words must prevail over a given picture; None = guidance"
    )
    sampler: str = Field(default="dpmpp_2m", description="empty where there is nothing to choose")
    fast: Fast | None = Field(default=None, description="how it paints in few steps; None = it cannot")
    can: frozenset[Can] = frozenset({Can.WORDS, Can.NEGATIVE})
    note: str = Field(default="", description="what to know where nobody chose steps and guidance")
    prompt_type: str = Field(
        default="words",
        description="what reads a prompt: a text encoder (words), a table (names it knows), or CLIP",
    )
    closed_vocabulary: bool = Field(
        default=False, description="it has learned the things of `data.vocabulary` and no others"
    )
    styles: dict[str, str] = Field(
        default_factory=dict, description="style name -> words for it, en and zh by '/'"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {_OLD_NAMES.get(name, name): value for name, value in fields.items()}

    @property
    def one_size(self) -> bool:
        """Whether it paints its native size only, because `size_multiple` is as large as that size."""
        return self.size_multiple == self.width == self.height

    @property
    def paints_drawings(self) -> bool:
        """Whether it was trained on drawings in named styles, and not on photos."""
        return bool(self.styles)

    @field_serializer("can")
    def _in_order(self, can: frozenset[Can]) -> list[str]:
        return sorted(can)  # the order of a set differs from run to run


def read_card(folder: Path) -> Card:
    """The card in a folder of weights; the weights are not opened.

    Raises:
        BadWeights: the card is missing, cannot be read, is not a card, or has a wrong field.
    """
    path = folder / "card.json"
    try:
        return Card.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["loc"]:
            fact = f"{fault['loc'][0]} is {shorten(repr(fault['input']), 40)}: {fault['msg'].lower()}"
            raise BadWeights(f"{str(path)!r}: {fact}: correct the card") from None
    except FileNotFoundError:
        raise BadWeights(f"{str(path)!r} is missing: fetch the whole folder again") from None
    except OSError:
        pass
    raise BadWeights(f"{str(path)!r} is not a model's card: restore it from where the model came from")


def find_card(folder: Path) -> Card | None:
    """As `read_card`, but None where the folder has no card; folders of other programs have none."""
    return read_card(folder) if (folder / "card.json").is_file() else None
