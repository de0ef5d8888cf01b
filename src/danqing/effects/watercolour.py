"""Watercolour 水彩: thin washes with dark edges that run into each other, paper grain, a white margin.

Bousseau, Kaplan, Thollot and Sillion 2006: density of pigment by paper, turbulence and edges.
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Scene

PALETTE = ("#fbf9f4", "#4a4038")  # paper, pencil


def watercolour(scene: Scene) -> Array:
    """Transparent washes on rough paper."""
    paper, pencil = scene.colours
    rough = f.grain(scene, 1)
    forms = f.forms_of(scene, 5)
    wander = scene.px(2.4)
    washes = f.displace(forms.large, wander * scene.noise(14, 5), wander * scene.noise(14, 6))
    lab = f.rich(f.to_lab(washes), 1.3)
    low, _, high = scene.whole.once(f.levels)
    tone = np.clip((lab[..., 0] / 100 - low) / (high - low), 0, 1)
    lab[..., 0] = 22 + 78 * (0.35 * tone + 0.65 * f.stairs(tone, 6, 0.8)) ** 0.72
    colours = np.clip(f.from_lab(lab), 0.02, 1)
    density = _density(scene, colours, rough) * _margin(scene, rough)
    painted = paper * colours ** density[..., None]
    drawn = f.lines(f.tone(scene, forms.detail), forms.flow, scene.px(0.9), 0.010, 0.035)
    return f.cover(painted * (1 + 0.012 * rough[..., None]), pencil, 0.42 * drawn * np.clip(density, 0, 1))


def _density(scene: Scene, colours: Array, rough: Array) -> Array:
    """The density of the pigment [h w]; 1 is the wash as mixed: eq. 1 of Bousseau et al."""
    slopes = f.lightness(colours)
    edge = f.blur(abs(slopes - f.blur(slopes, scene.px(3.5))), scene.px(1.0))
    turbulence = 0.12 * scene.noise(90, 11) + 0.08 * scene.noise(30, 12)
    return np.clip(1 + 3.2 * np.clip(edge, 0, 0.25) + turbulence + 0.10 * rough, 0.35, 2.2)


def _margin(scene: Scene, rough: Array) -> Array:
    """0 on the bare paper around the painting, 1 inside: [h w]. A cut-out has no margin."""
    if scene.whole.alpha.min() < 0.5:
        return np.ones(rough.shape, np.float32)
    away = scene.from_border() + 9 * scene.noise(70, 14) + 3 * scene.noise(18, 15) + 0.8 * rough
    inside = f.step(away, 30, 5)
    return np.asarray(inside * (1 + 0.5 * np.exp(-((np.maximum(away - 30, 0) / 5) ** 2))), np.float32)
