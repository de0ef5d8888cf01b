"""Fits the sizes in requests of other programs to a model."""

from __future__ import annotations

from danqing.core.card import Card
from danqing.core.field_groups import SIDE_MAX


def nearest_size(width: int, height: int, card: Card) -> tuple[int, int]:
    """The size nearest to width x height, of about the same shape, that the model can paint.

    Other programs send sizes for other models (512x512, 1024x1024) without asking; our answer contains the
    size.
    """
    grid = card.size_multiple * card.scale
    if card.one_size:
        return card.width * card.scale, card.height * card.scale
    most = min(SIDE_MAX, 2 * max(card.width, card.height) * card.scale)
    shrink = min(1.0, most / max(width, height))
    sides = (max(1, round(side * shrink / grid)) * grid for side in (width, height))
    first, second = sides
    return first, second
