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
class Given:
    """Pictures that a request starts from, at the painter's native size.

    image: [1 c h w] in [-1, 1], in the format of `Painter.finish`. region: [1 1 h w] in [0, 1], 1 where to
    repaint; None is everywhere. references: pictures to mix instead of one `image`, each like it, by their
    weights.
    """

    image: Tensor | None = None
    region: Tensor | None = None
    references: tuple[Tensor, ...] = ()
    weights: tuple[float, ...] = ()


NOTHING = Given()


@dataclass(frozen=True)
class Conditioning:
    """Encoded words: token states [n l d], and which of them to attend to [n l] (True = yes) or None for all.

    image [n c h w] is a given picture as the painter's own state, region [n 1 h w] where to repaint it, 1 =
    yes, and beside [n k h w] what a network trained to repaint sees next to its canvas. `dropped` are the
    words that did not fit the text tower; they are reported, never lost in silence.
    """

    tokens: Tensor
    mask: Tensor | None = None
    negative: Conditioning | None = None
    image: Tensor | None = None
    region: Tensor | None = None
    beside: Tensor | None = None
    dropped: str = ""

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def expand(self, n: int) -> Conditioning:
        """The same words for n pictures. Only a conditioning of one, or of n already, can be expanded."""
        return replace(
            self,
            tokens=self.tokens.expand(n, -1, -1),
            mask=_expanded(self.mask, n),
            negative=None if self.negative is None else self.negative.expand(n),
            image=_expanded(self.image, n),
            region=_expanded(self.region, n),
            beside=_expanded(self.beside, n),
        )

    @staticmethod
    def cat(*parts: Conditioning) -> Conditioning:
        """One batch of all parts; what else than tokens they have is kept where every part has it."""
        negatives = [part.negative for part in parts if part.negative is not None]
        return Conditioning(
            tokens=torch.cat([part.tokens for part in parts]),
            mask=_joined([part.mask for part in parts]),
            negative=Conditioning.cat(*negatives) if len(negatives) == len(parts) else None,
            image=_joined([part.image for part in parts]),
            region=_joined([part.region for part in parts]),
            beside=_joined([part.beside for part in parts]),
        )


def _expanded(tensor: Tensor | None, n: int) -> Tensor | None:
    return None if tensor is None else tensor.expand(n, *tensor.shape[1:])


def _joined(tensors: list[Tensor | None]) -> Tensor | None:
    there = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(there) if len(there) == len(tensors) else None


@dataclass(frozen=True)
class Canvas:
    """The unfinished pictures on their way through the loop.

    state: what the painter works on [n c h w] (latents, pixels); after the last step, what `finish` turns
    into pixels. seeds: where further noise comes from. step: how many of `of` steps are done. tile: the
    left edge continues the right one, and the top the bottom.
    """

    state: Tensor
    seeds: Seeds
    step: int
    of: int
    tile: bool = False


class Painter(Protocol):
    """Anything that paints. All briefs are settled (`Brief.settled`). Stop iterating `steps` to cancel."""

    card: Card

    def condition(self, brief: Brief, given: Given = NOTHING) -> Conditioning:
        """Words and given pictures -> conditioning for one picture, with the negative words inside."""
        ...

    def begin(self, brief: Brief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """The canvas to start from, one row per seed: blank, or the given picture as far as it is kept."""
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
