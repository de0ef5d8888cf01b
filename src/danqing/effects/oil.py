"""Oil 油画: strokes along the shapes, with a relief that catches the light.

Anisotropic Kuwahara filter (Kyprianidis, Kang and Döllner 2009); the relief of strokes as in Hertzmann 2002.
"""

from __future__ import annotations

import cv2
import numpy as np

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Scene

PALETTE = ()


def oil(scene: Scene) -> Array:
    """Strokes of thick colour."""
    flow = f.flow_of(f.lightness(scene.picture), scene.px(8))
    forms = f.kuwahara(scene.picture, scene.px(7), flow, sharp=4)
    forms = f.kuwahara(forms, scene.px(5), flow, sharp=4)
    bristles = f.along(scene.noise(1.8, 1), flow, scene.px(13))
    bristles = bristles / (bristles.std() + 1e-6)
    strokes = f.along(scene.noise(7, 2), flow, scene.px(26))
    strokes = strokes / (strokes.std() + 1e-6)
    wander = scene.px(2.2)
    forms = f.displace(forms, wander * strokes * -flow.y, wander * strokes * flow.x)
    lab = f.rich(f.to_lab(forms), 1.22)
    lab[..., 0] = np.clip(lab[..., 0] * (1 + 0.035 * strokes) + 0.9 * strokes, 0, 100)
    colours = f.from_lab(lab)
    height = 0.5 * bristles + 0.6 * strokes + 2.5 * f.lightness(forms)
    light = _light(height, scene.fine(1))
    return np.clip(
        colours * (1 + 0.16 * light[..., None]) + 0.06 * np.maximum(light, 0)[..., None] ** 2, 0, 1
    )


def _light(height: Array, unit: float) -> Array:
    """Light from the upper left on a relief, compared with a flat surface, [h w] in [-1, 1]."""
    smooth = f.blur(height, 0.5 * unit)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
    return np.asarray(np.tanh((x + y) * -0.16 * max(unit, 0.7)), np.float32)
