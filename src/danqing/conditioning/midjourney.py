"""Midjourney's stylize, chaos and weird, as functions of what a painter is conditioned on.

stylize scales the guidance: how strongly the words shape the picture. chaos turns each picture's token states
by an angle of its own, weird turns all of them the same way. Turning keeps the length of every state, so
that the network sees what it could have been given. At stylize 100, chaos 0 and weird 0 nothing is computed,
so the picture is the same as without them.
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
CHAOS_ANGLE = math.pi / 4  # at the most; beyond it a picture has more of chance than of its words
CHAOS_PULL = 0.25  # how far guidance may stray
WEIRD_ANGLE = math.pi / 3

_FACTORS = ((0, 0.6), (50, 0.85), (100, 1.0), (250, 1.15), (500, 1.35), (1000, 1.6))


def stylize_guidance(guidance: float, stylize: int) -> float:
    """Guidance for a `Brief.stylize` in [0, 1000]: grows with it, from 0.6 to 1.6 times; as it is at 100."""
    k = min(bisect_right(_FACTORS, (stylize, math.inf)), len(_FACTORS) - 1)
    (below, low), (above, high) = _FACTORS[k - 1], _FACTORS[k]
    return guidance * (low + (high - low) * (stylize - below) / (above - below))


def with_chaos_and_weird(words: Conditioning, brief: ResolvedBrief, seeds: Sequence[int]) -> Conditioning:
    """`words` of n pictures with the `chaos` and the `weird` of `brief`; row k depends on seeds[k] only.

    The negative words stay as they are: the pictures shall differ in what they show, not in what they avoid.
    """
    if brief.weird:
        angle = WEIRD_ANGLE * brief.weird / WEIRD_MAX
        words = words.each(
            lambda part: replace(part, tokens=turn_towards(part.tokens, _odd(part.tokens), angle))
        )
    if brief.chaos:
        amount = brief.chaos / CHAOS_MAX
        words = words.each(lambda part: _chaotic(part, amount, seeds))
        if brief.guidance != 1:  # a weight other than 1 asks for a second answer
            pulls = torch.tensor([_pull(amount, seed) for seed in seeds], device=words.tokens.device)
            words = words.each(lambda part: replace(part, weight=part.weights * pulls))
    return words


def turn_towards(states: Tensor, towards: Tensor, angle: float) -> Tensor:
    """States [... d] turned by `angle`, lengths kept, towards the part of `towards` orthogonal to each."""
    length = states.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(states.dtype).tiny)
    unit = states / length
    aside = towards - (towards * unit).sum(-1, keepdim=True) * unit
    aside = aside / aside.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(states.dtype).tiny)
    turn_towards: Tensor = math.cos(angle) * states + math.sin(angle) * length * aside
    return turn_towards


def _chaotic(part: Conditioning, amount: float, seeds: Sequence[int]) -> Conditioning:
    # one direction for all tokens of a picture: attention would average many of them away
    shape = (1, part.tokens.shape[-1])
    directions = torch.stack([torch.randn(shape, generator=_chance(seed)) for seed in seeds])
    return replace(part, tokens=turn_towards(part.tokens, directions.to(part.tokens), amount * CHAOS_ANGLE))


def _odd(tokens: Tensor) -> Tensor:
    """The one direction of `weird` among states of d numbers: [d], the same in every picture."""
    return torch.randn(tokens.shape[-1], generator=Generator().manual_seed(3000)).to(tokens)


def _chance(seed: int) -> Generator:
    # torch's CPU generator looks at 32 bits of a seed, so adding to it would meet some picture's noise
    return Generator().manual_seed(Random(f"chaos {seed}").getrandbits(32))


def _pull(amount: float, seed: int) -> float:
    return 1 + amount * CHAOS_PULL * Random(f"pull {seed}").uniform(-1, 1)
