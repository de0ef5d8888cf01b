"""Paint a picture again in a style."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from danqing.apps._inputs import PictureInputs, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.field_groups import Strength, Text
from danqing.core.image_ref import ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Stylize(PictureInputs):
    """Paint a picture again in a style, or in the look of another picture."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})

    prompt: Text = optional_words()
    like: ImageRef | None = Field(default=None, description="a picture whose style is wanted")
    strength: Strength | None = Field(
        default=None, description="how far to leave the picture; the style's own if not given"
    )


@app(
    Stylize,
    examples=("danqing stylize cat.png --style paper-cut", "danqing stylize cat.png --like porcelain.png"),
)
def stylize(inputs: Stylize, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """`image` in another style: one that the model knows, a style pack, or the look of another picture.

    Without a prompt the thing in the picture is named by its own words, or by CLIP.

    Raises:
        BadBrief: neither or both of style and `like` are given, or no such style.
    """
    from danqing.apps._stylize import stylize_source

    return stylize_source(inputs, session, progress)
