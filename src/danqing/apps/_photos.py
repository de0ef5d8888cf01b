"""Detects input photos for models that were trained on drawings only. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from danqing.core.card import Card
from danqing.core.field_groups import Anyway
from danqing.core.image_ref import ImageRef

if TYPE_CHECKING:
    from danqing.apps._inputs import AppInputs


def photo_notes(inputs: AppInputs, card: Card | None) -> list[str]:
    """A warning for the first photo among the pictures, in an app that does not work well with photos."""
    if not inputs.photo_advice or (isinstance(inputs, Anyway) and inputs.anyway):
        return []
    photo = first_photo(inputs.start_pictures(), card)
    if photo is None or card is None:
        return []
    return [f"{image_name(photo)} is a photo, and model {card.name!r} paints drawings: {inputs.photo_advice}"]


def first_photo(pictures: Iterable[ImageRef], card: Card | None) -> ImageRef | None:
    """The first picture that is a photo; None where there is none, or the model may support photos.

    card: the card of the model; None for a model without a card, as of other programs.
    """
    if card is None or not card.paints_drawings:
        return None
    return next(filter(is_photo, pictures), None)


def is_photo(ref: ImageRef) -> bool:
    """Whether a picture may be a photo: its metadata has no prompt."""
    from danqing.photos import likeness

    brief = ref.source.brief
    return (brief is None or not brief.prompt) and likeness.is_photo(ref.source.image)


def image_name(ref: ImageRef) -> str:
    """The name of a picture in messages."""
    return repr(ref.name) if ref.name != "picture" else "the picture"
