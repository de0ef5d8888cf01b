"""Paper-cut 剪纸: one connected sheet of red paper, with holes where the picture is light, and a frame.

Lines: Kang, Lee and Chui 2007. Loose pieces are joined by the shortest bridges: a minimum spanning tree.
"""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Scene
from danqing.effects._sheet import sheet_of

PALETTE = ("#c4161c", "#faf5ea")  # paper, ground


def paper_cut(scene: Scene) -> Array:
    """Red paper on a pale ground."""
    red, pale = scene.colours
    sheet = scene.at(f.blur(scene.whole.once(sheet_of).astype(np.float32), scene.whole.fine(0.9)))
    paper = f.step(sheet, 0.5, 0.25)
    away = round(scene.fine(3.0))
    shadow = f.blur(np.roll(paper, (away, away), (0, 1)), scene.fine(2.5))
    ground = pale * (1 - 0.28 * shadow * (1 - paper))[..., None]
    surface = red * (1 + 0.02 * f.grain(scene, 1) + 0.03 * scene.noise(200, 5))[..., None]
    return f.cover(ground, surface, paper)
