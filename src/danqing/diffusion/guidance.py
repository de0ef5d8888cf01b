"""Classifier-free guidance, also with several weighted parts of a prompt.

Guidance turns a network of (x, t, conditioning) into a function of (x, level) for one conditioning. Like a
sampler, it never calls the network: it yields each `NetworkCall`, so that the caller may answer the calls of
many pictures at once. It works on raw network outputs: x0 is affine in the output, so mixing outputs is the
same as mixing x0.
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
"""(x [n c h w], t [n], conditioning of n pictures) -> output [n c h w], whose meaning a `Prediction` tells.

A learned variance follows in c further channels.
"""

T = TypeVar("T")


class NetworkCall(NamedTuple):
    """One call of a network.

    x, t, conditioning: the arguments of `Network`.
    """

    network: Network
    x: Tensor
    t: Tensor
    conditioning: Conditioning

    def output(self) -> Tensor:
        """The output of the network [n c h w]."""
        return self.network(self.x, self.t, self.conditioning)


NetworkCalls = Generator[NetworkCall, Tensor, T]
"""Yields network calls, is sent their outputs, returns its result."""


def answer_each(calls: NetworkCalls[T]) -> T:
    """Run the network for each call separately, and return the result of the generator."""
    try:
        call = next(calls)
        while True:
            call = calls.send(call.output())
    except StopIteration as stop:
        result: T = stop.value
        return result


@dataclass(frozen=True)
class Guidance:
    """The settings of classifier-free guidance.

    scale: 1 is the conditional output, 0 ignores the prompt, above 1 the prompt has more effect.
    rescale: how much to reduce over-saturation, in [0, 1] (arXiv 2305.08891 suggests 0.7).
    interval: the times t at which to guide, from the first to below the second (arXiv 2404.07724). At other
        times the scale is 1, and a step costs half.
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
    """As `guide_calls`, but the function calls the network itself."""
    calls = guide_calls(network, conditioning, guidance)
    return lambda x, level: answer_each(calls(x, level))


def guide_calls(
    network: Network, conditioning: Conditioning, guidance: Guidance
) -> Callable[[Tensor, Level], NetworkCalls[Tensor]]:
    """The guided network as a function of x [n c h w] and a level, giving an output [n c h w].

    With parts c_i of weights l_i the output is u + scale * sum_i l_i (c_i - u), Liu et al., arXiv 2206.01714
    eq. 11, where u is the output for the negative prompt. One network call with n rows for each part and for
    u gives all of them. Only the first c channels are guided; a learned variance is that of the prompt.

    Raises:
        ValueError: `conditioning.negative` is None, and the scale is not 1 or the weights do not sum to 1.
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
    """The first `channels` channels, which are guided, and the others, if any."""
    return output[:, :channels], output[:, channels:]


def guide_calls_scheduled(
    network: Network, conditioning: Conditioning, guidance: Guidance, levels: Sequence[Level]
) -> Callable[[Tensor, Level], NetworkCalls[Tensor]]:
    """As `guide_calls`, with the conditioning that is active at each of the `levels`.

    A level belongs to the step that starts at it; a level between two belongs to the step that contains it.
    So the conditioning is a function of the level, and samplers need not handle it.
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
    """The outputs for the same x and each conditioning of `rows`, from one network call."""
    t = torch.full((len(x) * len(rows),), level.t, device=x.device)
    if len(rows) == 1:
        return [(yield NetworkCall(network, x, t, rows[0]))]
    output = yield NetworkCall(network, torch.cat([x] * len(rows)), t, Conditioning.cat(*rows))
    return output.chunk(len(rows))


def _is_whole(parts: Sequence[Conditioning]) -> bool:
    """Whether the weights sum to 1; then the parts compose without an unconditional output."""
    if len(parts) == 1 and parts[0].weight is None:
        return True
    total = torch.stack([part.weights for part in parts]).sum(0)
    return torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-6)


def keep_outside_region(conditioning: Conditioning) -> Callable[[Tensor], Tensor]:
    """A function of x0 that restores the input picture outside the region to repaint.

    It mixes estimates x0, not noisy states, so it works with every sampler: outside the region, sampling
    converges to the input picture. With deterministic samplers this corresponds to blended latent diffusion
    (arXiv 2206.02779 section 4.1), which adds new noise to the picture at each level.
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
    unconditional: u [n c h w]. Without it the result is sum_i l_i c_i; it is equal if the weights sum to 1.
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
    """The sum u + w (c - u): Ho and Salimans, arXiv 2207.12598, in the form of arXiv 2205.11487 eq. 2."""
    return unconditional + scale * (conditional - unconditional)


def rescale(mixed: Tensor, conditional: Tensor, amount: float) -> Tensor:
    """Rescale `mixed` towards the standard deviation of `conditional` (arXiv 2305.08891 eq. 15-16).

    mixed, conditional: [n c h w]; the standard deviation is over c, h and w of each picture.
    amount: from 0 (no change) to 1 (the full rescaling).
    """
    if amount == 0:
        return mixed
    axes = tuple(range(1, mixed.ndim))
    matched = mixed * (conditional.std(axes, keepdim=True) / mixed.std(axes, keepdim=True))
    return amount * matched + (1 - amount) * mixed
