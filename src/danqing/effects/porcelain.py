"""Blue-and-white porcelain 青花: cobalt under a clear glaze, in a few washes, with dark lines and two rings.

Lines: Kang, Lee and Chui 2007. The dark spots are the iron of early cobalt (铁锈斑).
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._regions import empty
from danqing.effects._scene import Array, Scene

PALETTE = ("#153a8f", "#f1f5f7")  # cobalt, glaze


def porcelain(scene: Scene) -> Array:
    """Cobalt on white glaze."""
    cobalt, glaze = scene.colours
    forms = f.forms_of(scene, 5)
    dark = f.darkness(scene, forms.large, 0.3) * (1 - 0.75 * empty(scene, forms.large))
    washes = f.stairs(f.blur(dark, scene.px(1.5)), 4, 0.4)
    wet = np.maximum(washes - f.blur(washes, scene.px(5)), 0)
    drawn = f.lines(f.tone(scene, forms.detail), forms.flow, scene.px(1.25), 0.008, 0.02)
    spots = f.step(scene.noise(3.2, 5), 2.0, 0.8) * np.maximum(drawn, washes > 0.55)
    strength = np.clip(0.85 * washes + 0.7 * wet + 0.06 * scene.noise(25, 7) * washes, 0, 1)
    ground = glaze * (1 + 0.012 * scene.noise(200, 9))[..., None]
    painted = f.pigment(ground, cobalt, strength)
    painted = f.pigment(painted, cobalt * 0.62, np.clip(np.maximum(drawn, _rings(scene)) + 0.5 * spots, 0, 1))
    return np.clip(
        painted + 0.05 * f.step(scene.noise(330, 11), 1.1, 1.5)[..., None], 0, 1
    )  # highlights on the glaze


def _rings(scene: Scene) -> Array:
    """The mask of two lines around the picture [h w]; a cut-out has none."""
    if scene.whole.alpha.min() < 0.5:
        return np.zeros(scene.picture.shape[:2], np.float32)
    away = scene.from_border() + 0.35 * scene.noise(40, 13)
    return np.maximum(_band(away, 13, 3.2), _band(away, 21, 1.6))


def _band(away: Array, place: float, width: float) -> Array:
    return 0.9 * (1 - f.step(abs(away - place), width / 2, 1.2))
