"""Anime 动漫: flat cel colours in light and shade, clean lines, brighter skies, highlights on dark hair.

Regions: anisotropic Kuwahara filter (Kyprianidis et al. 2009), domain transform (Gastal and Oliveira 2011);
cels: soft quantisation (Winnemöller, Olsen and Gooch 2006).
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Scene

PALETTE = ("#3f9be8", "#2c2233")  # sky, line


def anime(scene: Scene) -> Array:
    """Cels over a painted ground."""
    sky, line = scene.colours
    forms = f.forms_of(scene, 5)
    flat = f.flatten(forms.large, scene.px(25), 0.08)
    lab = f.to_lab(flat)
    lab[..., 0] = _cels(scene, lab[..., 0] / 100, f.lightness(forms.large)) * 100
    lab = f.rich(lab, 1.45)
    colours = _with_sky(scene, f.from_lab(lab), forms.large, sky)
    glow = f.blur(colours * f.step(f.lightness(colours), 0.86, 0.2)[..., None], scene.px(14))
    colours = 1 - (1 - colours) * (1 - 0.22 * np.clip(glow, 0, 1))
    drawn = f.lines(f.tone(scene, forms.detail), forms.flow, scene.px(1.15), 0.008, 0.014)
    ink = 0.55 * line + 0.45 * colours * line.mean() * 2  # lines take some colour of the areas beside them
    return f.cover(colours, ink, 0.95 * drawn)


def _cels(scene: Scene, flat: Array, forms: Array) -> Array:
    """Lightness [h w] in a few steps, brighter than the picture, with highlights where dark hair shines."""
    low, middle, high = scene.whole.once(f.levels)
    tone = np.clip((flat - low) / (high - low), 0, 1)
    gamma = np.clip(np.log(0.58) / np.log(np.clip((middle - low) / (high - low), 0.1, 0.9)), 0.55, 1.1)
    tone = tone**gamma
    cels = 0.3 * tone + 0.7 * f.stairs(tone, 7, 0.35)
    shine = np.maximum(forms - f.blur(forms, scene.px(14)), 0) * f.step(0.42 - flat, 0, 0.25)
    return 0.07 + 0.92 * f.unit(cels + 0.22 * f.step(shine, 0.05, 0.05))


def _with_sky(scene: Scene, colours: Array, forms: Array, sky: Array) -> Array:
    """The colours with a clear blue sky that pales towards the horizon, and with white clouds."""
    light, down, lab = f.lightness(colours), scene.from_top(), f.to_lab(forms)
    blue = f.step(-lab[..., 2] - 0.8 * np.maximum(lab[..., 1], 0), 6, 9)
    here = f.blur(blue * f.step(lab[..., 0], 42, 14) * f.step(0.75 - down, 0, 0.4), scene.px(2))
    gradient = sky + (np.array([0.86, 0.95, 1.0], np.float32) - sky) * np.clip(down * 1.5, 0, 1)[..., None]
    lifted = gradient * (0.75 + 0.35 * light)[..., None]
    cloud = f.step(light, 0.9, 0.12)[..., None] * here[..., None]
    mixed = colours + (lifted - colours) * 0.8 * here[..., None]
    return f.unit(mixed + (1 - mixed) * 0.8 * cloud)
