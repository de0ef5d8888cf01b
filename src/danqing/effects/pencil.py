"""Pencil 铅笔: contour lines and layered hatching in graphite on rough paper.

Sketch and tone as in Lu, Xu and Jia 2012; layers of hatching as in Praun et al. 2001, of stretched noise.
"""

from __future__ import annotations

import cv2
import numpy as np

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Scene

PALETTE = ("#2b2b2e", "#f8f6f1")  # graphite, paper


def pencil(scene: Scene) -> Array:
    """Graphite on paper."""
    graphite, paper = scene.colours
    forms = f.forms_of(scene, 4, detail=2.2)
    tone = f.tone(scene, forms.detail)
    rough = f.grain(scene, 1)
    shade = np.clip(0.72 * _hatching(scene, tone) + 0.42 * (1 - tone) ** 2.2, 0, 1)
    fine = f.lines(tone, forms.flow, scene.px(0.9), 0.006, 0.022)
    bold = f.lines(f.tone(scene, forms.large), forms.flow, scene.px(1.9), 0.018, 0.05)
    drawn = np.maximum(0.75 * fine, 0.95 * bold) * (0.85 + 0.25 * f.step(rough, -0.6, 1.2))
    marks = np.clip(np.maximum(1.0 * shade, drawn), 0, 1) * (1 - 0.22 * f.step(rough, 0.5, 1.2))
    return f.cover(paper * (1 + 0.008 * rough[..., None]), graphite, np.clip(marks, 0, 0.96))


def _hatching(scene: Scene, tone: Array) -> Array:
    """Strokes [h w] in [0, 1]; each darker tone adds one more direction."""
    marks = np.zeros(tone.shape, np.float32)
    for k, (angle, dark) in enumerate(((52, 0.30), (46, 0.50), (128, 0.64), (12, 0.78), (88, 0.90))):
        strokes = _strokes(scene, angle, key=20 + k)
        here = f.step(1 - tone + 0.05 * strokes, dark, 0.22)
        marks += (1 - marks) * here * (0.20 + 0.05 * k) * np.clip(0.9 + 0.6 * strokes, 0, 2)
    return np.clip(marks, 0, 1)


def _strokes(scene: Scene, angle: float, key: int) -> Array:
    """Noise [h w] stretched in one direction (degrees), mean 0, deviation about 1."""
    length = max(5, 2 * round(scene.fine(16)) + 1)
    kernel = np.zeros((length, length), np.float32)
    middle = length // 2
    reach = np.array([np.cos(np.radians(angle)), -np.sin(np.radians(angle))]) * middle
    ends = [tuple(np.round(middle + sign * reach).astype(int).tolist()) for sign in (1, -1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA)
    grains = cv2.filter2D(
        scene.noise(1.3, key), cv2.CV_32F, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT
    )
    return np.asarray(grains * 2.2 * np.sqrt(length / 12), np.float32)
