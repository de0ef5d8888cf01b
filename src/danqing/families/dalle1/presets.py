"""The sizes of DALL-E's networks."""

from __future__ import annotations

from danqing.nets.discrete_vae import DiscreteVAEConfig
from danqing.nets.token_transformer import TokenTransformerConfig

DISCRETE_VAES: dict[str, DiscreteVAEConfig] = {
    "tiny": DiscreteVAEConfig(
        vocab=16, channels=4, hidden=16, groups=1, blocks=1, start=16, kernel=1, patch=4, gain=1.0
    ),
    "sticker": DiscreteVAEConfig(
        vocab=2048, channels=4, hidden=192, groups=1, blocks=1, start=192, kernel=1, patch=5, gain=1.0
    ),
    "paper": DiscreteVAEConfig(),
}
TRANSFORMERS: dict[str, TokenTransformerConfig] = {
    "tiny": TokenTransformerConfig(text=8, vocab=16, side=4, layers=2, width=16, heads=2),
    "sticker": TokenTransformerConfig(text=24, vocab=2048, side=8, layers=6, width=192, heads=6),
    "paper": TokenTransformerConfig(attention="sparse"),
}
