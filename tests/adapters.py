"""Adapters of random numbers that do change pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.tuning.adapter import Adapter
from danqing.tuning.lora import ATTENTION, RESNETS, TEXT, Factors, new_factors


def random_adapter(
    painter: DiffusionPainter,
    name: str = "thing",
    rank: int = 4,
    alpha: float = 2.0,
    seed: int = 0,
    text: bool = True,
    scale: Any = 0.3,
) -> Adapter:
    endings = {"unet": ATTENTION + RESNETS, "text_encoder": TEXT if text else ()}
    rng = torch.Generator().manual_seed(seed)
    factors = {
        layer: Factors(
            change.down.detach().clone(), scale * torch.randn(change.up.shape, generator=rng), alpha
        )
        for layer, change in new_factors(painter.modules, endings, rank, seed).items()
    }
    return Adapter(name, factors=factors)


def scaled(adapter: Adapter, weight: float) -> Adapter:
    """The same with the weight inside."""
    factors = {k: Factors(v.down, v.up * weight, v.alpha) for k, v in adapter.factors.items()}
    return replace(adapter, factors=factors)


def output(painter: DiffusionPainter, prompt: str = "a cat") -> Tensor:
    """What the network says of fixed noise for a prompt."""
    words = painter.text(prompt)
    x = Seeds([5]).normal(painter.vae.channels, 4, 4)
    with torch.no_grad():
        return painter.network(x, torch.full((1,), 500.0), words)


def bits(painter: DiffusionPainter) -> dict[str, Tensor]:
    """A copy of everything in the painter's networks."""
    return {
        f"{network}.{name}": value.clone()
        for network, module in painter.modules.items()
        for name, value in module.state_dict().items()
    }


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def resolved(painter: DiffusionPainter, prompt: str = "a cat", **fields: Any) -> ResolvedBrief:
    return Brief.of(prompt, seed=1, steps=2, native=True, **fields).resolve(painter.card)
