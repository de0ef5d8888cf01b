"""Paint pictures from words: the app, over any painter."""

from __future__ import annotations

from typing import Any

from danqing.apps._generate import Watch, painted
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.diffusion.samplers import SAMPLERS


def paint(
    brief: Brief | str,
    *,
    painter: Painter | None = None,
    watch: Watch | None = None,
    batch: int = 1,
    **fields: object,
) -> list[Picture]:
    """Paint what `brief` (or a prompt with fields of a brief) asks for: one picture per seed.

    painter: who paints; None opens `brief.model`. watch: called with the canvas after every step, its `step`
    and `of` counted over all pictures; what it raises cancels the painting.

    batch: how many pictures go through the network at once. With 1, a picture is the same byte for byte in
    any grid and alone. More is faster on a large accelerator, at the price of memory and of that promise:
    kernels round by batch size, so the picture painted alone may differ by one in a few of its bytes.

    Raises:
        BadBrief: it cannot be painted as asked. BadWeights: the model cannot be opened.
        NotFinite: the numbers broke down; nothing is returned.
    """
    if batch < 1:
        raise BadBrief(f"batch {batch} is too small: use 1 or more")
    brief = _gathered(brief, painter, fields)
    if brief.image is not None or brief.mask is not None:
        place = brief.image or brief.mask
        raise BadBrief(f"this brief starts from {place!r}: use the app that made it (danqing show tells)")
    if brief.sampler:
        SAMPLERS[brief.sampler]  # an unknown name is told before seconds of opening
    if painter is None:
        from danqing.families import open_painter  # a caller with a painter of its own needs no weights

        painter = open_painter(brief.model)
    return painted(brief.resolved(painter.card), painter, watch=watch, batch=batch)


def _gathered(brief: Brief | str, painter: Painter | None, fields: dict[str, object]) -> Brief:
    given: dict[str, Any] = (
        {"prompt": brief} if isinstance(brief, str) else brief.model_dump(exclude_unset=True)
    )
    if painter is not None:
        given.setdefault("model", painter.card.name)  # the picture tells who really painted it
    return Brief.of(**{**given, **fields})
