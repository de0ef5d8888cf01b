"""Styles by name: packs of words for any model, or the style that a model has learned. Needs no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from danqing.conditioning.prompt import is_chinese
from danqing.core.brief import style_key
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief, shorten, unknown
from danqing.core.field_groups import PROMPT_MAX

Words = Annotated[str, Field(max_length=PROMPT_MAX // 4)]


class StylePack(BaseModel):
    """A style in words, for models that have not learned it, and its name in those that have.

    One TOML file each; the file's name is the style's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    title: Words = Field(min_length=1, description="its name in English")
    title_zh: Words = Field(min_length=1, description="its name in Chinese")
    aliases: tuple[Words, ...] = Field(default=(), description="what else it is called")
    words: Words = Field(min_length=1, description="what a prompt says to get it, in English")
    words_zh: Words = Field(min_length=1, description="the same in Chinese")
    negative: Words = Field(default="", description="what to keep out, in English")
    negative_zh: Words = Field(default="", description="the same in Chinese")
    strength: float = Field(
        default=0.7, gt=0, le=1, description="how far to leave a picture that is redrawn in it"
    )
    steps: int | None = Field(default=None, ge=1, le=1000, description="denoising steps, if it needs its own")
    adapter: str | None = Field(default=None, description="a learned adapter that makes it, by name or file")
    learned: tuple[str, ...] = Field(
        default=(), description="names of the style on cards of models that have learned it"
    )

    def has_name(self, name: str) -> bool:
        """Whether `name` means this style."""
        names = (self.name, self.title, self.title_zh, *self.aliases)
        return style_key(name) in map(style_key, names)


def packs(own: Path) -> dict[str, StylePack]:
    """All styles by name: the shipped ones, and the user's in the folder `own`, which take precedence.

    Raises:
        BadBrief: naming the file of the user's that is no style, and what is wrong with it.
    """
    shipped = resources.files("danqing") / "styles"
    files = [*shipped.iterdir(), *(own.iterdir() if own.is_dir() else ())]
    made = (read_pack(file) for file in files if file.name.endswith(".toml"))
    return dict(sorted({pack.name: pack for pack in made}.items()))


def read_pack(file: Traversable) -> StylePack:
    """The style in one TOML file.

    Raises:
        BadBrief: it cannot be read, is no TOML, or a field is missing, unknown or out of range.
    """
    try:
        fields = tomllib.loads(file.read_text("utf-8"))
        return StylePack.model_validate({"name": file.name.removesuffix(".toml"), **fields})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    except (OSError, ValueError) as error:  # no UTF-8 and no TOML are both a ValueError
        reason = shorten(str(error), 100)
    raise BadBrief(f"style {str(file)!r} cannot be used ({reason}): mend or remove it")


def pack_of(name: str, packs: Mapping[str, StylePack]) -> StylePack:
    """The style called `name`, in English or Chinese.

    Raises:
        BadBrief: there is none, naming the nearest.
    """
    for pack in packs.values():
        if pack.has_name(name):
            return pack
    names = {name for pack in packs.values() for name in (pack.name, pack.title_zh.lower())}
    raise BadBrief(unknown("style", name, names))


def apply_style(prompt: str, pack: StylePack, card: Card) -> tuple[str, str, str | None]:
    """(prompt, negative prompt, style) that ask the model of `card` for a prompt in a style.

    A model that has learned the style is asked by its name alone. Others get the pack's words after the
    prompt, in its language and only once, and its negative words if they follow any.
    """
    own = next((name for name in (pack.name, *pack.learned) if name in card.styles), None)
    if own is not None:
        return prompt, "", own
    chinese = is_chinese(prompt)
    words, comma = (pack.words_zh, "，") if chinese else (pack.words, ", ")
    negative = (pack.negative_zh if chinese else pack.negative) if Can.NEGATIVE in card.can else ""
    text = prompt if words.casefold() in prompt.casefold() else f"{prompt.strip()}{comma}{words}"
    return text, negative, None
