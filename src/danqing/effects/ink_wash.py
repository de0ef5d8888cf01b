"""Ink wash 水墨: washes in a few tones with wet edges, broken brush lines, and paper left empty (留白).

Lines: Kang, Lee and Chui 2007. Wet edges and grain: Bousseau et al. 2006, with ink for watercolour.
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._regions import empty
from danqing.effects._scene import Array, Scene

PALETTE = ("#17171b", "#f4efe3")  # ink, paper


def ink_wash(scene: Scene) -> Array:
    """Ink on unsized paper."""
    ink, paper = scene.colours
    forms = f.forms_of(scene, 6)
    rough = f.grain(scene, 1)
    ground = paper * (1 + 0.012 * rough[..., None])
    filled = 1 - 0.9 * empty(scene, forms.large)
    washes = f.pigment(ground, ink, 0.86 * filled * _wash(scene, forms.large, rough))
    return f.pigment(washes, ink, _strokes(scene, forms, rough) * (0.4 + 0.6 * filled))


def _wash(scene: Scene, forms: Array, rough: Array) -> Array:
    """The amount of ink in the washes [h w] in [0, 1], slightly above 1 at wet edges."""
    wander = scene.px(3.5)
    forms = f.displace(forms, wander * scene.noise(16, 10), wander * scene.noise(16, 11))
    # the noise is mist
    dark = f.darkness(scene, forms, 0.24) * (1 - 0.28 * f.step(scene.noise(190, 21), 0.3, 2.0))
    flat = f.stairs(f.blur(dark, scene.px(2)), 5, 0.45)
    wet = np.maximum(flat - f.blur(flat, scene.px(6)), 0)
    cloud = 1 + 0.16 * scene.noise(60, 20) + 0.07 * rough
    return np.asarray(np.clip((flat + 0.9 * wet) * cloud, 0, 1.1), np.float32)


def _strokes(scene: Scene, forms: f.Forms, rough: Array) -> Array:
    """Brush lines [h w] in [0, 1], thick and thin, and broken where the brush moves fast (飞白)."""
    bold = f.lines(f.tone(scene, forms.large), forms.flow, scene.px(2.6), 0.02, 0.05)
    thin = f.lines(f.tone(scene, forms.detail), forms.flow, scene.px(1.1), 0.010, 0.03)
    bristles = f.along(scene.noise(1.4, 30), forms.flow, scene.px(14))
    bristles = bristles / (bristles.std() + 1e-6)
    pressure = np.clip(0.75 + 0.35 * scene.noise(45, 40), 0.25, 1)
    dry = f.step(pressure + 0.22 * bristles + 0.1 * rough, 0.5, 0.5)
    return f.unit(np.maximum(bold * pressure, 0.8 * thin) * dry)
