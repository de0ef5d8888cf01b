"""The four verbs of anything that paints, and what moves between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from danqing.core.brief import Brief
from danqing.core.card import Card
from danqing.core.seeds import Seeds


@dataclass(frozen=True)
class Conditioning:
    """Encoded words: token states [n l d], and which of them to attend to [n l] (True = yes) or None for all.

    `dropped` are the words that did not fit the text tower; they are reported, never lost in silence.
    """

    tokens: Tensor
    mask: Tensor | None = None
    negative: Conditioning | None = None
    dropped: str = ""

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def expand(self, n: int) -> Conditioning:
        """The same words for n pictures. Only a conditioning of one, or of n already, can be expanded."""
        mask = None if self.mask is None else self.mask.expand(n, -1)
        negative = None if self.negative is None else self.negative.expand(n)
        return replace(self, tokens=self.tokens.expand(n, -1, -1), mask=mask, negative=negative)

    @staticmethod
    def cat(*parts: Conditioning) -> Conditioning:
        """One batch of all parts; their masks and negatives are kept where every part has them."""
        masks = [part.mask for part in parts if part.mask is not None]
        negatives = [part.negative for part in parts if part.negative is not None]
        return Conditioning(
            tokens=torch.cat([part.tokens for part in parts]),
            mask=torch.cat(masks) if len(masks) == len(parts) else None,
            negative=Conditioning.cat(*negatives) if len(negatives) == len(parts) else None,
        )


@dataclass(frozen=True)
class Canvas:
    """The unfinished pictures on their way through the loop.

    state: what the painter works on [n c h w] (latents, pixels); after the last step, what `finish` turns
    into pixels. seeds: where further noise comes from. step: how many of `of` steps are done.
    """

    state: Tensor
    seeds: Seeds
    step: int
    of: int


class Painter(Protocol):
    """Anything that paints. All briefs are settled (`Brief.settled`). Stop iterating `steps` to cancel."""

    card: Card

    def condition(self, brief: Brief) -> Conditioning:
        """Words -> conditioning for one picture, with the negative words inside."""
        ...

    def begin(self, brief: Brief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """The blank canvas, one row per seed."""
        ...

    def steps(self, brief: Brief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """Paint: one canvas per step, the last with step == of.

        Raises:
            NotFinite: the network gave NaN or infinite values.
        """
        ...

    def preview(self, canvas: Canvas) -> Tensor:
        """A cheap small look at an unfinished canvas: [n 3 h w] in [0, 1], any h and w."""
        ...

    def finish(self, canvas: Canvas) -> Tensor:
        """The finished pictures at native size, [n c h w] in [-1, 1]; c is 3, or 4 with straight alpha last.

        The colour of a 4-channel picture is already laid over white, so its first three channels alone are a
        picture on white; `core.images` recovers the straight colour.
        """
        ...

    def enlarge(self, pixels: Tensor) -> Tensor:
        """`card.scale` times larger, in the format of `finish`. The identity when `card.scale` is 1."""
        ...
