"""The protocol `Painter`, whose main methods are condition, begin, steps and finish, and their types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any, Protocol

import torch
from torch import Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.card import Card
from danqing.core.seeds import Seeds


@dataclass(frozen=True)
class InputImages:
    """The input pictures of a request, at the painter's native size.

    image: [1 c h w] in [-1, 1], in the format of `Painter.finish`.
    region: [1 1 h w] in [0, 1], 1 where to repaint; None means everywhere.
    references: pictures to mix, in place of `image`; each has its shape and range.
    weights: the weight of each of `references` in the mix.
    depth: [1 1 h w], larger is nearer, in any unit.
    """

    image: Tensor | None = None
    region: Tensor | None = None
    references: tuple[Tensor, ...] = ()
    weights: tuple[float, ...] = ()
    depth: Tensor | None = None

    def to(self, device: torch.device) -> InputImages:
        """A copy with all tensors on `device`."""
        move_part = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        references = tuple(picture.to(device) for picture in self.references)
        return replace(self, references=references, **move_part)  # type: ignore[arg-type]


NO_IMAGES = InputImages()


@dataclass(frozen=True)
class Conditioning:
    """An encoded prompt: what a network is conditioned on, for n pictures.

    tokens: token states [n l d].
    mask: which tokens to attend to [n l], True is yes; None means all.
    negative: the encoded negative prompt; its own `negative` is None.
    image: the input picture as a state of the painter [n c h w].
    region: where to repaint `image` [n 1 h w], 1 is yes.
    concat: further input channels [n k h w] of a network that was trained to repaint or to upscale.
    concat_level: the noise level of `concat` [n] in [0, 1], for a network that takes it as an input.
    pooled: the pooled text embedding [n p], for a network that takes it as well as the tokens.
    sizes: the size conditioning of SDXL in pixels [n 6]: original size (height, width), crop offset (top,
        left) and target size (height, width). A refiner has an aesthetic score in place of the target
        size: [n 5].
    image_tokens: the tokens of image prompts [n k d].
    dropped: the words that did not fit into the text encoder; they are reported to the user.
    weight: the weight of the prediction from these tokens [n]; None is 1.
    others: further parts of the same prompt, each with its weight.
    schedule: pairs of a step and the conditioning that is active from that step on.

    Items of `others` have only tokens, mask, pooled, sizes, image_tokens and weight. Items of `schedule` may
    also have others and a negative. See `parts` and `at`.
    """

    tokens: Tensor
    mask: Tensor | None = None
    negative: Conditioning | None = None
    image: Tensor | None = None
    region: Tensor | None = None
    concat: Tensor | None = None
    concat_level: Tensor | None = None
    pooled: Tensor | None = None
    sizes: Tensor | None = None
    image_tokens: Tensor | None = None
    dropped: str = ""
    weight: Tensor | None = None
    others: tuple[Conditioning, ...] = ()
    schedule: tuple[tuple[int, Conditioning], ...] = ()

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def weights(self) -> Tensor:
        """`weight` [n]; ones where it is None."""
        return torch.ones(len(self), device=self.tokens.device) if self.weight is None else self.weight

    @property
    def parts(self) -> tuple[Conditioning, ...]:
        """All parts of the prompt; each keeps the input pictures, but no negative, others or schedule."""
        alone: dict[str, Any] = {"negative": None, "others": (), "schedule": ()}
        parts = (
            replace(part, image=self.image, region=self.region, **alone) for part in (self, *self.others)
        )
        return tuple(part.with_concat(self.concat, self.concat_level) for part in parts)

    @property
    def stages(self) -> tuple[tuple[int, Conditioning], ...]:
        """Pairs of a step and the conditioning from that step on, in order; the first step is 0."""
        return ((0, replace(self, schedule=())), *((start, self.at(start)) for start, _ in self.schedule))

    def at(self, step: int) -> Conditioning:
        """The conditioning that is active at a step, counted from 0; it keeps the input pictures."""
        now = next((words for start, words in reversed(self.schedule) if start <= step), None)
        if now is None:
            return replace(self, schedule=())
        return replace(now, image=self.image, region=self.region).with_concat(self.concat, self.concat_level)

    def with_concat(self, concat: Tensor | None, level: Tensor | None = None) -> Conditioning:
        """A copy whose prompt and negative prompt have `concat`; `level` becomes `concat_level`."""
        negative = None if self.negative is None else self.negative.with_concat(concat, level)
        return replace(self, negative=negative, concat=concat, concat_level=level)

    def each(self, change: Callable[[Conditioning], Conditioning]) -> Conditioning:
        """A copy with `change` applied to every part at every step.

        change: maps one part to a new one; it must not change `others` and `schedule`.
        """
        return replace(
            change(self),
            others=tuple(change(other) for other in self.others),
            schedule=tuple((start, words.each(change)) for start, words in self.schedule),
        )

    def to(self, device: torch.device) -> Conditioning:
        """A copy with all tensors on `device`."""

        def move_part(part: Conditioning) -> Conditioning:
            tensors = {
                name: value.to(device) for name, value in vars(part).items() if isinstance(value, Tensor)
            }
            negative = None if part.negative is None else part.negative.to(device)
            return replace(part, negative=negative, **tensors)  # type: ignore[arg-type]

        return self.each(move_part)

    def expand(self, n: int) -> Conditioning:
        """The conditioning repeated for n pictures; it must be for 1 picture, or for n already."""

        def expand_part(part: Conditioning) -> Conditioning:
            return replace(
                part,
                tokens=part.tokens.expand(n, -1, -1),
                mask=_expand(part.mask, n),
                negative=None if part.negative is None else part.negative.expand(n),
                image=_expand(part.image, n),
                region=_expand(part.region, n),
                concat=_expand(part.concat, n),
                concat_level=_expand(part.concat_level, n),
                pooled=_expand(part.pooled, n),
                sizes=_expand(part.sizes, n),
                image_tokens=_expand(part.image_tokens, n),
                weight=_expand(part.weight, n),
            )

        return self.each(expand_part)

    @staticmethod
    def cat(*rows: Conditioning) -> Conditioning:
        """Join conditionings into one batch. A field other than tokens is kept only if every row has it.

        A row with fewer parts than another gets parts of weight 0. A row with fewer entries in `schedule`
        repeats the active one.
        """
        starts = sorted({start for row in rows for start, _ in row.schedule})
        schedule = tuple((start, Conditioning.cat(*(row.at(start) for row in rows))) for start in starts)
        most = max(len(row.others) for row in rows)
        others = tuple(_cat([_other(row, k) for row in rows]) for k in range(most))
        negatives = [row.negative for row in rows if row.negative is not None]
        negative = Conditioning.cat(*negatives) if len(negatives) == len(rows) else None
        return replace(_cat(rows), negative=negative, others=others, schedule=schedule)


def _cat(rows: Sequence[Conditioning]) -> Conditioning:
    length = lcm(*(row.tokens.shape[1] for row in rows))
    weighted = any(row.weight is not None for row in rows)
    return Conditioning(
        tokens=torch.cat([_repeat(row.tokens, length) for row in rows]),
        mask=_join([None if row.mask is None else _repeat(row.mask, length) for row in rows]),
        image=_join([row.image for row in rows]),
        region=_join([row.region for row in rows]),
        concat=_join([row.concat for row in rows]),
        concat_level=_join([row.concat_level for row in rows]),
        pooled=_join([row.pooled for row in rows]),
        sizes=_join([row.sizes for row in rows]),
        image_tokens=_join([row.image_tokens for row in rows]),
        weight=torch.cat([row.weights for row in rows]) if weighted else None,
    )


def _other(row: Conditioning, k: int) -> Conditioning:
    if k < len(row.others):
        return row.others[k]
    nothing = torch.zeros(len(row), device=row.tokens.device)
    return replace(
        Conditioning(row.tokens, row.mask, weight=nothing, pooled=row.pooled, sizes=row.sizes),
        image_tokens=row.image_tokens,
    )


def _repeat(tensor: Tensor, length: int) -> Tensor:
    # cross-attention gives the same result when every token is repeated equally often, so rows reach the same
    # length without padding (in a network that pools them with a token of its own, that token counts less)
    return torch.cat([tensor] * (length // tensor.shape[1]), dim=1)


def _expand(tensor: Tensor | None, n: int) -> Tensor | None:
    return None if tensor is None else tensor.expand(n, *tensor.shape[1:])


def _join(tensors: list[Tensor | None]) -> Tensor | None:
    there = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(there) if len(there) == len(tensors) else None


@dataclass(frozen=True)
class Canvas:
    """The state of the denoising loop: pictures that are not finished.

    state: latents or pixels [n c h w]. After the last step, `finish` decodes them.
    seeds: the generators of further noise.
    step: how many steps are done.
    of: how many steps there are.
    tile: whether the pictures are seamless: the left edge continues the right one, the top the bottom one.
    """

    state: Tensor
    seeds: Seeds
    step: int
    of: int
    tile: bool = False


class Painter(Protocol):
    """A model that paints, of any family. To cancel, stop iterating `steps`."""

    card: Card

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Move all networks to `device` and let them compute in `dtype`; None is float32.

        Noise is still drawn on the CPU and schedules are computed in float32, so that a seed gives the same
        picture on any device. Previews and finished pictures are returned on the CPU, in float32.
        """
        ...

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:
        """A brief's prompts and input pictures, encoded for one picture."""
        ...

    def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """The first canvas, one row for each seed: noise, or the input picture with noise added."""
        ...

    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """Paint: one canvas per step, the last with step == of.

        Raises:
            NotFinite: the output of the network is NaN or infinite.
        """
        ...

    def preview(self, canvas: Canvas) -> Tensor:
        """A cheap preview of an unfinished canvas: [n 3 h w] in [0, 1], any h and w."""
        ...

    def finish(self, canvas: Canvas) -> Tensor:
        """The finished pictures at native size, [n c h w] in [-1, 1]; c is 3, or 4 with alpha last.

        The colour of a 4-channel picture is already composited over white, so its first three channels alone
        are the picture on white; `core.images` recovers the straight colour.
        """
        ...

    def upscale(self, pixels: Tensor) -> Tensor:
        """Pictures `card.scale` times larger, in the format of `finish`; the same ones if the scale is 1."""
        ...
