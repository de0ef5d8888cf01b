"""Midjourney's stylize, chaos and weird, as changes of guidance and conditioning.

stylize scales the guidance. chaos rotates the token states of each picture in a random direction of its own;
weird rotates those of all pictures in the same direction. A rotation keeps the norm of each state, so that
the input of the network stays in the range of its training. At stylize 100, chaos 0 and weird 0 nothing is
computed, so the picture is the same as without them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import torch
from torch import Generator, Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.painter import Conditioning

CHAOS_MAX, WEIRD_MAX = 100, 3000  # the ranges of Brief
CHAOS_ANGLE = math.pi / 4  # radians, at chaos 100; with more, chance would weigh more than the prompt
CHAOS_PULL = 0.25  # the largest relative change of the guidance by chaos
WEIRD_ANGLE = math.pi / 3

_FACTORS = ((0, 0.6), (50, 0.85), (100, 1.0), (250, 1.15), (500, 1.35), (1000, 1.6))


def stylize_guidance(guidance: float, stylize: int) -> float:
    """The guidance scaled for a `Brief.stylize` in [0, 1000]: by 0.6 at 0, by 1 at 100, by 1.6 at 1000."""
    k = min(bisect_right(_FACTORS, (stylize, math.inf)), len(_FACTORS) - 1)
    (below, low), (above, high) = _FACTORS[k - 1], _FACTORS[k]
    return guidance * (low + (high - low) * (stylize - below) / (above - below))


def with_chaos_and_weird(words: Conditioning, brief: ResolvedBrief, seeds: Sequence[int]) -> Conditioning:
    """Apply `brief.chaos` and `brief.weird` to a conditioning of n pictures.

    The change of row k depends on seeds[k] only. The negative prompt stays the same: pictures shall differ in
    what they show, not in what they avoid.
    """
    if brief.weird:
        angle = WEIRD_ANGLE * brief.weird / WEIRD_MAX
        words = words.each(
            lambda part: replace(part, tokens=turn_towards(part.tokens, _odd(part.tokens), angle))
        )
    if brief.chaos:
        amount = brief.chaos / CHAOS_MAX
        words = words.each(lambda part: _chaotic(part, amount, seeds))
        if brief.guidance != 1:  # a weight other than 1 needs an unconditional output too
            pulls = torch.tensor([_pull(amount, seed) for seed in seeds], device=words.tokens.device)
            words = words.each(lambda part: replace(part, weight=part.weights * pulls))
    return words


def turn_towards(states: Tensor, towards: Tensor, angle: float) -> Tensor:
    """Rotate states [... d] by `angle` radians towards `towards`; the norm of each state is kept.

    The plane of rotation is that of the state and of the component of `towards` orthogonal to it.
    """
    length = states.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(states.dtype).tiny)
    unit = states / length
    aside = towards - (towards * unit).sum(-1, keepdim=True) * unit
    aside = aside / aside.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(states.dtype).tiny)
    turn_towards: Tensor = math.cos(angle) * states + math.sin(angle) * length * aside
    return turn_towards


def _chaotic(part: Conditioning, amount: float, seeds: Sequence[int]) -> Conditioning:
    # one direction for all tokens of a picture: attention would average out a direction per token
    shape = (1, part.tokens.shape[-1])
    directions = torch.stack([torch.randn(shape, generator=_chance(seed)) for seed in seeds])
    return replace(part, tokens=turn_towards(part.tokens, directions.to(part.tokens), amount * CHAOS_ANGLE))


def _odd(tokens: Tensor) -> Tensor:
    """The direction [d] in which `weird` rotates the states, the same for every picture."""
    return torch.randn(tokens.shape[-1], generator=Generator().manual_seed(3000)).to(tokens)


def _chance(seed: int) -> Generator:
    # torch's CPU generator uses only 32 bits of a seed, so an offset would repeat another picture's noise
    return Generator().manual_seed(Random(f"chaos {seed}").getrandbits(32))


def _pull(amount: float, seed: int) -> float:
    return 1 + amount * CHAOS_PULL * Random(f"pull {seed}").uniform(-1, 1)
