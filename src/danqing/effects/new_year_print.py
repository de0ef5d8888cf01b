"""New-Year print 年画: strong black lines, and rose, yellow, green and purple printed flat from woodblocks.

Inks: nearest colour of the palette in Lab. Lines: Kang, Lee and Chui 2007.
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._prints import key_block, press, print_inks
from danqing.effects._scene import Array, Scene

PALETTE = (
    *("#1b1416", "#f6ead0", "#d81e4a", "#f7c531", "#2a8f57", "#6d2f86", "#ef8232", "#f8cfae", "#2b62a8"),
    *("#f3a3b0", "#3b2a33"),
)  # line, paper, then inks
INKS = True


def new_year_print(scene: Scene) -> Array:
    """Printed in bright inks."""
    line, paper, *_ = scene.colours
    forms = f.forms_of(scene, 6, detail=3)
    lab = f.rich(f.to_lab(f.flatten(forms.large, scene.px(30), 0.08)), 2.1)
    low, middle, high = scene.whole.once(f.levels)
    tone = np.clip((lab[..., 0] / 100 - low) / (high - low), 0, 1)
    lab[..., 0] = 100 * (0.16 + 0.8 * tone ** (0.6 if middle < 0.5 else 0.85))
    colours = print_inks(scene, lab, scene.colours[1:], tint=1.15, slip=1.2)
    colours = press(scene, colours, paper, 20, loss=0.3)
    bold = key_block(scene, forms.large, forms.flow, 2.4, 0.014)
    drawn = np.maximum(bold, key_block(scene, forms.detail, forms.flow, 1.3, 0.012))
    return f.cover(colours, line, 0.96 * drawn)
