"""Style packs: a named style as prompt text for any model, or as a trained style. Needs no torch."""

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
    """A style as prompt text, and its name in models that were trained on it.

    Each is one TOML file; the name of the file is the name of the style.
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
        """Whether `name` is a name of this style."""
        names = (self.name, self.title, self.title_zh, *self.aliases)
        return style_key(name) in map(style_key, names)


def packs(own: Path) -> dict[str, StylePack]:
    """Name -> style pack, of the shipped ones and of the user's in the folder `own`, which take precedence.

    Raises:
        BadBrief: a file of the user is not a style pack; the message names the file and the problem.
    """
    shipped = resources.files("danqing") / "styles"
    files = [*shipped.iterdir(), *(own.iterdir() if own.is_dir() else ())]
    made = (read_pack(file) for file in files if file.name.endswith(".toml"))
    return dict(sorted({pack.name: pack for pack in made}.items()))


def read_pack(file: Traversable) -> StylePack:
    """Read the style pack in one TOML file.

    Raises:
        BadBrief: the file cannot be read or is not TOML, or a field is missing, unknown or out of range.
    """
    try:
        fields = tomllib.loads(file.read_text("utf-8"))
        return StylePack.model_validate({"name": file.name.removesuffix(".toml"), **fields})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    except (OSError, ValueError) as error:  # decoding and TOML errors are ValueErrors
        reason = shorten(str(error), 100)
    raise BadBrief(f"style {str(file)!r} cannot be used ({reason}): mend or remove it")


def pack_of(name: str, packs: Mapping[str, StylePack]) -> StylePack:
    """The style called `name`, in English or Chinese.

    Raises:
        BadBrief: there is none; the message names the nearest.
    """
    for pack in packs.values():
        if pack.has_name(name):
            return pack
    names = {name for pack in packs.values() for name in (pack.name, pack.title_zh.lower())}
    raise BadBrief(unknown("style", name, names))


def apply_style(prompt: str, pack: StylePack, card: Card) -> tuple[str, str, str | None]:
    """The prompt, negative prompt and style name for a prompt in a style, for the model of `card`.

    For a model that was trained on the style, only the style name is set. For others, the pack's text is
    appended to the prompt, in its language and only once, and its negative text to the negative prompt if the
    model supports one.
    """
    own = next((name for name in (pack.name, *pack.learned) if name in card.styles), None)
    if own is not None:
        return prompt, "", own
    chinese = is_chinese(prompt)
    words, comma = (pack.words_zh, "，") if chinese else (pack.words, ", ")
    negative = (pack.negative_zh if chinese else pack.negative) if Can.NEGATIVE in card.can else ""
    text = prompt if words.casefold() in prompt.casefold() else f"{prompt.strip()}{comma}{words}"
    return text, negative, None
