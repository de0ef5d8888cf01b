"""Following the words more closely than the network would by itself.

Guidance turns a network of (x, t, words) into a function of (x, level), with the conditioning already bound.
Like a sampler, it never calls the network: it yields each `NetworkCall`, so that whoever owns the loop may
answer the calls of many pictures at once. It works on raw network outputs; since x0 is affine in the output,
mixing outputs and mixing x0 is the same.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from danqing.core.painter import Conditioning
from danqing.diffusion.schedule import Level

Network = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""(x [n c h w], t [n], words for n pictures) -> output [n c h w], whatever `Prediction` says it means.

Where the variance is learned, it follows in c further channels.
"""

T = TypeVar("T")


class NetworkCall(NamedTuple):
    """One call of a network. x, t, conditioning: as of `Network`."""

    network: Network
    x: Tensor
    t: Tensor
    conditioning: Conditioning

    def output(self) -> Tensor:
        """The answer [n c h w]."""
        return self.network(self.x, self.t, self.conditioning)


NetworkCalls = Generator[NetworkCall, Tensor, T]
"""Yields network calls, is sent their outputs, returns its result."""


def answer_each(calls: NetworkCalls[T]) -> T:
    """The result, each network call answered by itself."""
    try:
        call = next(calls)
        while True:
            call = calls.send(call.output())
    except StopIteration as stop:
        result: T = stop.value
        return result


@dataclass(frozen=True)
class Guidance:
    """How strongly to guide, how much to reduce over-saturation, and at which levels.

    scale: 1 follows the prompt as learned, 0 ignores it, more exaggerates it.
    rescale: how much to reduce over-saturation, in [0, 1] (arXiv 2305.08891 suggests 0.7).
    interval: the times t, from the first up to but without the second, at which to guide at all
        (arXiv 2404.07724); elsewhere the scale is 1 and a step costs half.
    """

    scale: float
    rescale: float = 0.0
    interval: tuple[float, float] = (-math.inf, math.inf)

    def scale_at(self, level: Level) -> float:
        """The scale at this level: 1 outside the interval."""
        low, high = self.interval
        return self.scale if low <= level.t < high else 1.0


def guide(
    network: Network, conditioning: Conditioning, guidance: Guidance
) -> Callable[[Tensor, Level], Tensor]:
    """As `guide_calls`, with each network call answered by itself."""
    calls = guide_calls(network, conditioning, guidance)
    return lambda x, level: answer_each(calls(x, level))


def guide_calls(
    network: Network, conditioning: Conditioning, guidance: Guidance
) -> Callable[[Tensor, Level], NetworkCalls[Tensor]]:
    """The network guided by `conditioning`: a function of x [n c h w] and a level to an output [n c h w].

    With parts c_i of weights l_i it is u + scale * sum_i l_i (c_i - u), Liu et al., arXiv 2206.01714 eq. 11,
    where u is the output for the negative prompt. All outputs come from one network call with n rows for
    each. Only the first c channels are guided: a learned variance is that of the prompt alone.

    Raises:
        ValueError: a scale other than 1, or weights that do not sum to 1, need `conditioning.negative`.
    """
    negative, parts = conditioning.negative, conditioning.parts
    weights = [part.weight for part in parts]
    whole = _is_whole(parts)
    if negative is None and not (guidance.scale == 1 and whole):
        raise ValueError(
            f"guidance {guidance.scale} needs a negative conditioning, if only of the empty prompt"
        )

    def output(x: Tensor, level: Level) -> NetworkCalls[Tensor]:
        scale = guidance.scale_at(level)
        if scale == 0 and negative is not None:
            return (yield from _network_outputs(network, x, level, [negative]))[0]
        if negative is None or (scale == 1 and whole):
            return compose((yield from _network_outputs(network, x, level, parts)), weights)
        unconditional, *outputs = yield from _network_outputs(network, x, level, [negative, *parts])
        conditional = compose(outputs, weights, None if whole else unconditional)
        (cond, more), (uncond, _) = (_split(output, x.shape[1]) for output in (conditional, unconditional))
        mixed = rescale(classifier_free(cond, uncond, scale), cond, guidance.rescale)
        return torch.cat([mixed, more], dim=1) if more.shape[1] else mixed

    return output


def _split(output: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """The channels that are guided, and those behind them, if any."""
    return output[:, :channels], output[:, channels:]


def guide_calls_scheduled(
    network: Network, conditioning: Conditioning, guidance: Guidance, levels: Sequence[Level]
) -> Callable[[Tensor, Level], NetworkCalls[Tensor]]:
    """`guide_calls`, with the conditioning that is active at each of the `levels`.

    A level belongs to the step that starts at it, and one between two levels to the step that it lies in. So
    the conditioning is a function of the level, and no sampler needs to know of it.
    """
    outputs = [(start, guide_calls(network, stage, guidance)) for start, stage in conditioning.stages]
    starts = [level.log_snr for level in levels[:-1]]

    def output(x: Tensor, level: Level) -> NetworkCalls[Tensor]:
        step = bisect_right(starts, level.log_snr) - 1
        return next(guided_output for start, guided_output in reversed(outputs) if start <= max(step, 0))(
            x, level
        )

    return output


def _network_outputs(
    network: Network, x: Tensor, level: Level, rows: Sequence[Conditioning]
) -> NetworkCalls[Sequence[Tensor]]:
    """The network's outputs for the same x and each of `rows`, from one call."""
    t = torch.full((len(x) * len(rows),), level.t, device=x.device)
    if len(rows) == 1:
        return [(yield NetworkCall(network, x, t, rows[0]))]
    output = yield NetworkCall(network, torch.cat([x] * len(rows)), t, Conditioning.cat(*rows))
    return output.chunk(len(rows))


def _is_whole(parts: Sequence[Conditioning]) -> bool:
    """Whether the weights sum to 1, so that the parts can be composed without an unconditional output."""
    if len(parts) == 1 and parts[0].weight is None:
        return True
    total = torch.stack([part.weights for part in parts]).sum(0)
    return torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-6)


def keep_outside_region(conditioning: Conditioning) -> Callable[[Tensor], Tensor]:
    """A function of x0 that restores the input picture outside the region to repaint.

    The x0 are mixed, not the noisy states, so it holds with every sampler: outside the region
    sampling converges to the input picture. With deterministic samplers that is blended latent diffusion
    (arXiv 2206.02779 section 4.1), which noises the picture anew at each level.
    """
    image, region = conditioning.image, conditioning.region

    def keep(x0: Tensor) -> Tensor:
        return x0 if image is None or region is None else image + region * (x0 - image)

    return keep


def compose(
    outputs: Sequence[Tensor], weights: Sequence[Tensor | None], unconditional: Tensor | None = None
) -> Tensor:
    """The sum u + sum_i l_i (c_i - u), as in arXiv 2206.01714.

    outputs: c_i, each [n c h w].
    weights: l_i, each [n]; None is 1.
    unconditional: u [n c h w]. Without it the sum is sum_i l_i c_i, which is the same where the weights sum
        to 1.
    """
    if len(outputs) == 1 and weights[0] is None:
        return outputs[0]
    base = torch.zeros_like(outputs[0]) if unconditional is None else unconditional
    shape = (-1, *(1,) * (base.ndim - 1))
    pulls = (
        (1 if weight is None else weight.to(base).view(shape)) * (answer - base)
        for answer, weight in zip(outputs, weights, strict=True)
    )
    return torch.stack([base, *pulls]).sum(0)


def classifier_free(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Ho and Salimans, arXiv 2207.12598, as Imagen writes it (arXiv 2205.11487 eq. 2): u + w (c - u)."""
    return unconditional + scale * (conditional - unconditional)


def rescale(mixed: Tensor, conditional: Tensor, amount: float) -> Tensor:
    """`mixed` with the standard deviation of `conditional`, by `amount` (arXiv 2305.08891 eq. 15-16).

    mixed, conditional: [n c h w]; the deviation is that over c, h and w of each picture.
    amount: from 0 (not at all) to 1 (fully).
    """
    if amount == 0:
        return mixed
    axes = tuple(range(1, mixed.ndim))
    matched = mixed * (conditional.std(axes, keepdim=True) / mixed.std(axes, keepdim=True))
    return amount * matched + (1 - amount) * mixed
