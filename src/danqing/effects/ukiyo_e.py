"""Ukiyo-e 浮世绘: muted inks, a thin key block, graded skies (bokashi), wood grain.

Inks: nearest colour of the palette in Lab. Lines: Kang, Lee and Chui 2007.
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._prints import key_block, press, print_inks
from danqing.effects._regions import empty
from danqing.effects._scene import Array, Scene

PALETTE = (
    *("#1d2a44", "#efe2c4", "#1f4a7c", "#6f9ab5", "#b9cbc4", "#c8553d", "#d9a066", "#e8c9a0", "#6f7d4f"),
    *("#a7ad7c", "#7b4a3a", "#8c8578", "#2b2f3d", "#d8c79b"),
)  # line, paper, then inks
INKS = True


def ukiyo_e(scene: Scene) -> Array:
    """A print in muted inks."""
    line, paper, blue, *_ = scene.colours
    forms = f.forms_of(scene, 5)
    lab = f.rich(f.to_lab(f.flatten(forms.large, scene.px(30), 0.10)), 1.1)
    low, middle, high = scene.whole.once(f.levels)
    tone = np.clip((lab[..., 0] / 100 - low) / (high - low), 0, 1)
    lab[..., 0] = 100 * (0.17 + 0.76 * tone ** (0.65 if middle < 0.5 else 0.85))
    colours = print_inks(scene, lab, scene.colours[1:], tint=1.0, slip=0.5)
    colours = f.cover(colours, blue, _bokashi(scene, forms))
    wood = scene.noise(2.2, 30, across=160) + 0.6 * scene.noise(7, 31, across=260)
    colours = press(scene, colours * (1 + 0.012 * wood[..., None]), paper, 20, loss=0.18)
    drawn = key_block(scene, forms.detail, forms.flow, 1.1, 0.010)
    bold = key_block(scene, forms.large, forms.flow, 1.9, 0.016)
    return f.cover(colours, line, 0.94 * np.maximum(drawn, bold))


def _bokashi(scene: Scene, forms: f.Forms) -> Array:
    """A band of blue that fades from the top edge, behind the subject: [h w] in [0, 1]."""
    if scene.whole.alpha.min() < 0.5:
        return np.zeros(scene.picture.shape[:2], np.float32)
    behind = empty(scene, forms.large)
    fade = np.clip(1 - scene.from_top() / 0.16, 0, 1) ** 1.3
    light = f.step(f.tone(scene, scene.picture), 0.35, 0.3)
    return np.clip(0.9 * fade * (0.35 + 0.65 * behind) * (0.3 + 0.7 * f.blur(light, scene.px(4))), 0, 1)
