"""Woodblock printing: flat inks on paper, a key block for the lines, and slightly misaligned blocks."""

from __future__ import annotations

import numpy as np

from danqing.effects import _filters as f
from danqing.effects._scene import Array, Scene


def print_inks(scene: Scene, lab: Array, palette: Array, *, tint: float, slip: float) -> Array:
    """A picture [h w 3] in Lab, printed in the nearest inks of a palette, whose first colour is the paper.

    tint: weight of hue against lightness.
    slip: how far the colour blocks are shifted against the key block, in thousandths of the side.
    """
    colours = f.inks(lab, palette, soft=1.2, smooth=scene.px(2.2), tint=tint)
    away = scene.fine(slip)
    return f.displace(
        colours, np.full(lab.shape[:2], away, np.float32), np.full(lab.shape[:2], -away, np.float32)
    )


def press(scene: Scene, colours: Array, paper: Array, key: int, *, loss: float) -> Array:
    """Ink as a block prints it: uneven, with some bare paper.

    loss: amount of bare paper, in [0, 1].
    """
    rough = f.grain(scene, key)
    bare = f.step(rough + 0.4 * scene.noise(50, key + 5), 2.4 - 1.2 * loss, 0.7)
    uneven = 1 + 0.05 * loss * scene.noise(40, key + 6) + 0.03 * loss * rough
    return f.cover(np.clip(colours * uneven[..., None], 0, 1), paper, loss * bare)


def key_block(scene: Scene, picture: Array, flow: f.Flow, width: float, faint: float) -> Array:
    """The lines of the key block [h w] in [0, 1], with hard edges.

    width: in thousandths of the side.
    faint: contrast up to which no line is drawn.
    """
    tone = f.tone(scene, picture)
    drawn = f.lines(tone, flow, scene.px(width), faint, 0.012)
    return f.step(f.blur(drawn, scene.px(0.5)), 0.45, 0.5)
