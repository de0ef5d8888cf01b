"""Cartoon 卡通: a few strong colours in hard steps and thick black outlines.

Real-time video abstraction (Winnemöller, Olsen and Gooch 2006) with flow-based lines (Kang et al. 2007).
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Scene

PALETTE = ("#120e14",)  # line


def cartoon(scene: Scene) -> Array:
    """Bold, flat colours with black outlines."""
    (line,) = scene.colours
    forms = f.forms_of(scene, 6.5, detail=3)
    flat = f.flatten(forms.large, scene.px(40), 0.12)
    tone = f.tone(scene, flat)
    _, middle, _ = scene.whole.once(f.levels)
    tone = np.clip(tone, 0, 1) ** (0.75 if middle < 0.45 else 0.9)
    lab = f.rich(f.to_lab(flat), 1.9)
    lab[..., 0] = 100 * (0.10 + 0.88 * f.stairs(f.blur(tone, scene.px(1.5)), 4, 0.12))
    colours = f.from_lab(lab)
    bold = f.lines(f.tone(scene, forms.large), forms.flow, scene.px(3.4), 0.013, 0.010)
    fine = f.lines(f.tone(scene, forms.detail), forms.flow, scene.px(1.7), 0.011, 0.012)
    return f.cover(colours, line, np.maximum(bold, fine))
