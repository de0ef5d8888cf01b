"""Blue-green 青绿: azurite in dark parts, malachite above, on golden silk, with lines of ink and gold.

The palette is that of court landscapes of the Northern Song. Tones: Winnemöller et al. 2006.
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._regions import empty
from danqing.effects._scene import Array, Scene

PALETTE = ("#123a66", "#1f6f9c", "#2f9a86", "#8fb98a", "#dcc089", "#b5552e", "#3a2416", "#e9bf55")
# azurite, light azurite, malachite, light malachite, silk, cinnabar, ink, gold


def blue_green(scene: Scene) -> Array:
    """Mineral blue and green on silk."""
    *minerals, cinnabar, ink, gold = scene.colours
    silk = minerals[-1]
    forms = f.forms_of(scene, 5)
    tone, flow = f.tone(scene, forms.large), forms.flow
    ground = silk * (1 + 0.02 * f.silk(scene, 1) + 0.035 * scene.noise(160, 3))[..., None]
    colour = _minerals(scene, forms.large, np.stack(minerals))
    bare = empty(scene, forms.large)
    colour = f.cover(
        colour, cinnabar * (0.55 + 0.75 * tone)[..., None], 0.92 * _warm(forms.large) * (1 - bare)
    )
    flesh = f.cover(np.broadcast_to(silk, colour.shape), cinnabar, 0.45 * (1 - tone))
    colour = f.cover(
        colour, flesh, 0.85 * f.blur(f.skin(forms.large), scene.px(1.5)) * (1 - _warm(forms.large))
    )
    body = (1 - 0.85 * bare * _warm(forms.large)) * (
        1 - f.step(_lift(scene, tone), 0.82, 0.3) * (0.5 + 0.5 * bare)
    )
    painted = f.cover(ground, colour * (1 + 0.025 * f.grain(scene, 8))[..., None], 0.94 * body)
    drawn = f.lines(f.tone(scene, forms.detail), flow, scene.px(1.2), 0.010, 0.025)
    bold = f.lines(tone, flow, scene.px(2.6), 0.022, 0.04)
    light = f.lines(1 - tone, flow, scene.px(1.5), 0.03, 0.03)
    painted = f.cover(painted, gold, 0.7 * light * body)
    return f.pigment(painted, ink, np.clip(np.maximum(0.75 * drawn, 0.9 * bold), 0, 1))


def _lift(scene: Scene, tone: Array) -> Array:
    """The tone, shifted so that the whole picture's median is 1/2."""
    low, middle, high = scene.whole.once(f.levels)
    centre = np.clip((middle - low) / (high - low), 0.15, 0.8)
    return np.asarray(np.clip(tone, 0, 1) ** (np.log(0.52) / np.log(centre)), np.float32)


def _minerals(scene: Scene, forms: Array, minerals: Array) -> Array:
    """Azurite where the picture is blue or grey, malachite where green or brown; both are paler in light."""
    tone = f.stairs(_lift(scene, f.tone(scene, forms)), 6, 0.7) + 0.015 * scene.noise(30, 5)
    lab = f.to_lab(forms)
    green = f.step(f.blur(lab[..., 2] - 0.5 * lab[..., 1], scene.px(4)) + 3 * scene.noise(70, 6), 4, 10)
    azurite = _ramp(tone, minerals[[0, 0, 1, 1, 4]] * np.array([[0.8], [1], [1], [1.25], [1]], np.float32))
    malachite = _ramp(tone, minerals[[0, 2, 2, 3, 4]] * np.array([[0.8], [0.75], [1], [1], [1]], np.float32))
    return f.cover(azurite, malachite, green)


def _ramp(tone: Array, colours: Array) -> Array:
    """Map tone [h w] in [0, 1] to colours, interpolated between those of a ramp [k 3]."""
    places = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(tone, places, channel) for channel in colours.T], axis=-1).astype(np.float32)


def _warm(picture: Array) -> Array:
    """How strong and warm colours are, [h w] in [0, 1]: so that buildings and clothes stay red."""
    lab = f.to_lab(picture)
    return f.step(lab[..., 1] + 0.25 * lab[..., 2], 34, 22)
