"""Where a clean estimate may lie: what `DiffusionPainter.limit` can be."""

from __future__ import annotations

from torch import Tensor


def clamped(clean: Tensor) -> Tensor:
    """Pixels lie in [-1, 1], so do estimates of them: static thresholding (arXiv 2205.11487 section 2.3)."""
    return clean.clamp(-1, 1)
