"""Paint a picture again in a style, or render a photo in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from danqing.apps._inputs import PictureInputs, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief
from danqing.core.field_groups import Strength, Text
from danqing.core.image_ref import ImageLookup, ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Stylize(PictureInputs):
    """Paint a drawing again in a style, or in the look of another picture; render a photo in a style."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})
    PATTERNS: ClassVar[dict[str, str]] = {
        **PictureInputs.PATTERNS,
        "palette": "colours as #rrggbb with commas between",
    }

    prompt: Text = optional_words()
    like: ImageRef | None = Field(default=None, description="a picture whose style is wanted")
    strength: Strength | None = Field(
        default=None, description="how far to leave the picture; the style's own if not given"
    )
    how: Literal["auto", "paint", "render"] = Field(
        default="auto",
        description="paint with the model, or render without one at the picture's size; auto renders photos",
    )
    palette: Text = Field(
        default="",
        pattern=r"^(#[0-9a-fA-F]{6}(\s*[,，]\s*#[0-9a-fA-F]{6})*)?$",
        description="colours to render in, in place of the style's own: #1d3a8f,#fff7e8",
        json_schema_extra={"advanced": True},
    )
    title: str = Field(
        default="", max_length=12, description="words to write in a corner of a rendering (题字)"
    )
    seal: str = Field(
        default="", max_length=9, description="the characters of a red seal on a rendering (印章)"
    )

    def renders(self, card: Card | None) -> bool:
        """Whether an effect renders the picture, in place of the model of `card`."""
        if self.how != "auto" or self.like is not None:
            return self.how == "render"
        if card is None or not card.paints_drawings:
            return False
        from danqing.apps._photos import is_photo

        return is_photo(self.image)

    def check(self, card: Card) -> None:
        """As the base class; a rendering needs no capability of the model."""
        if not self.renders(card):
            super().check(card)


def _prepare(values: Mapping[str, Any], session: Session, image_lookup: ImageLookup) -> Stylize:
    """Parse the inputs; an unknown style is refused before a model is opened."""
    from danqing.apps._parse import parse
    from danqing.apps._style_packs import pack_of

    inputs = parse(Stylize, values, session, image_lookup)
    packs = session.style_packs()
    if inputs.style is None and any(pack.has_name(inputs.prompt) for pack in packs.values()):
        raise BadBrief(
            f"{inputs.prompt!r} is a style: give it as the style, and as words what to paint, if at all"
        )
    if (inputs.style is None) == (inputs.like is None):
        raise BadBrief("give one of a style, such as paper-cut, and a picture to be like")
    card = session.card(inputs.model)
    if inputs.style is not None and card is not None and inputs.style not in card.styles:
        pack_of(inputs.style, packs)
    return inputs


@app(
    Stylize,
    prepare=_prepare,
    examples=(
        "danqing stylize cat.png --style paper-cut",
        "danqing stylize cat.png --like porcelain.png",
        "danqing stylize photo.jpg --style ink-wash --title 远山如黛 --seal 丹青",
    ),
)
def stylize(inputs: Stylize, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Change the style of `image`: to a style of the model, a style pack, or the style of another picture.

    For a photo and a model of drawings only, an effect renders the style at the photo's size; `how` can
    choose otherwise. Without a prompt, the subject of a drawing is taken from its metadata, or found by CLIP.

    Raises:
        BadBrief: the request has neither a style nor `like`, or both, or the style is unknown.
    """
    from danqing.apps._stylize import stylize_source

    return stylize_source(inputs, session, progress)
