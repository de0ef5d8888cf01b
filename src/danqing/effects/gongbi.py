"""Gongbi 工笔: fine even outlines and thin mineral colour, shaded towards the lines (分染), on silk.

Lines: Kang, Lee and Chui 2007. Regions: anisotropic Kuwahara filter (Kyprianidis et al. 2009).
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._regions import empty
from danqing.effects._scene import Array, Scene

PALETTE = ("#2a1d18", "#e6d3ad")  # line, silk


def gongbi(scene: Scene) -> Array:
    """Line and thin colour on silk."""
    line, silk = scene.colours
    forms = f.forms_of(scene, 5)
    flat = f.flatten(forms.large, scene.px(30), 0.12)
    drawn = f.lines(f.tone(scene, forms.detail), forms.flow, scene.px(1.1), 0.006, 0.014)
    colour = _mineral(scene, 0.35 * forms.large + 0.65 * flat)
    ground = silk * (1 + 0.016 * f.silk(scene, 1) + 0.02 * scene.noise(120, 3))[..., None]
    shade = np.clip(f.blur(drawn, scene.px(7)) * 1.1, 0, 0.55)
    painted = ground * (0.30 + 0.70 * colour / np.maximum(colour.max(axis=-1, keepdims=True), 0.6))
    opaque = np.clip(0.68 + 0.2 * (1 - f.tone(scene, flat)), 0, 1)
    painted = f.cover(painted, colour * (1 + 0.012 * f.silk(scene, 1))[..., None], opaque)
    # the bare silk is background enough
    painted = f.cover(ground, painted, 1 - 0.8 * empty(scene, forms.large))
    painted = painted * (1 - 0.45 * shade * (1 - colour.min(axis=-1)))[..., None]
    return f.pigment(painted, line, 0.92 * drawn)


def _mineral(scene: Scene, colours: Array) -> Array:
    """Colours like those of ground minerals: lighter, without black, with warm whites and soft hues."""
    lab = f.rich(f.to_lab(colours), 1.05)
    low, _, high = scene.whole.once(f.levels)
    tone = np.clip((lab[..., 0] / 100 - low) / (high - low), 0, 1)
    lab[..., 0] = 30 + 63 * tone**0.8
    lab[..., 2] += 7 - 3 * tone
    lab[..., 1] += 1.5
    return f.from_lab(lab)
