"""Sizes that other programs ask for, on the grid of a model."""

from __future__ import annotations

from danqing.core.card import Card
from danqing.core.field_groups import SIDE_MAX


def nearest_size(width: int, height: int, card: Card) -> tuple[int, int]:
    """The size of the same shape that the model can paint and that is nearest to what is body.

    Programs send the sizes of other models (512x512, 1024x1024) without asking; the answer tells the size.
    """
    grid = card.size_multiple * card.scale
    if card.one_size:
        return card.width * card.scale, card.height * card.scale
    most = min(SIDE_MAX, 2 * max(card.width, card.height) * card.scale)
    shrink = min(1.0, most / max(width, height))
    sides = (max(1, round(side * shrink / grid)) * grid for side in (width, height))
    first, second = sides
    return first, second
