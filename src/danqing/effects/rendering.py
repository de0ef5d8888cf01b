"""Renders an effect at any size: small pictures at twice their size, large ones tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from math import sqrt
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageColor

from danqing.core.errors import BadBrief, unknown
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.effects import EFFECTS
from danqing.effects._scene import Array, Scene, Whole, whole_of

TILE = 1280  # pixels: the side of a tile without its margin
MARGIN = 60  # thousandths of the side: more than the reach of any filter
SMALL = 350_000  # pixels: smaller pictures are rendered at twice their size, so that lines have smooth edges


class Effect(NamedTuple):
    """A style effect.

    draw: maps a scene to colours [h w 3] in [0, 1].
    palette: its colours as #rrggbb.
    inks: whether the user may give more colours.
    crisp: whether small pictures are rendered at their own size.
    """

    draw: Callable[[Scene], Array]
    palette: tuple[str, ...]
    inks: bool
    crisp: bool


def find_effect(name: str) -> Effect:
    """The effect called `name`.

    Raises:
        BadBrief: there is none; the message names the nearest.
    """
    if name not in EFFECTS:
        raise BadBrief(unknown("effect", name, EFFECTS))
    function = name.replace("-", "_")
    module = import_module(f"danqing.effects.{function}")
    more = (getattr(module, name, False) for name in ("INKS", "CRISP"))
    return Effect(getattr(module, function), module.PALETTE, *more)


def render(
    image: Image.Image,
    name: str,
    *,
    strength: float = 0.5,
    palette: Sequence[str] = (),
    seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> Image.Image:
    """Render a picture in a style, at its own size, with its transparency.

    image: RGB or RGBA.
    name: of the effect.
    strength: in [0, 1]; 0 keeps fine detail, 1 leaves large shapes.
    palette: colours as #rrggbb that replace the effect's own, beginning with the first.
    seed: seed of all noise.

    Raises:
        BadBrief: there is no such effect, or it takes fewer colours.
    """
    effect = find_effect(name)
    colours = _colours(name, effect, palette)
    rgba = np.asarray(image.convert("RGBA"))
    whole = _whole(rgba, strength, seed)
    result = np.empty((*rgba.shape[:2], 3), np.uint8)
    factor = 2 if rgba.shape[0] * rgba.shape[1] < SMALL and not effect.crisp else 1
    tiles = list(_tiles(rgba.shape[0], rgba.shape[1], strength))
    for k, (inner, outer) in enumerate(tiles):
        scene = _scene(rgba, outer, whole, colours, factor)
        drawn = effect.draw(scene)
        result[inner] = _crop(drawn, factor, inner, outer)
        progress(Progress(k + 1, len(tiles), name))
    made = Image.fromarray(result)
    if image.mode == "RGBA":
        made.putalpha(image.getchannel("A"))
    return made


Box = tuple[slice, slice]


def _tiles(height: int, width: int, strength: float) -> Iterator[tuple[Box, Box]]:
    """The tiles that make up a picture: (box of the tile, box of the tile with its margin)."""
    margin = round(MARGIN / 1000 * sqrt(height * width) * 2 ** max(0.0, 2 * strength - 1))
    if height * width <= 2 * TILE**2:
        everything = slice(0, height), slice(0, width)
        yield everything, everything
        return
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            bottom, right = min(top + TILE, height), min(left + TILE, width)
            outer = (
                slice(max(0, top - margin), min(height, bottom + margin)),
                slice(max(0, left - margin), min(width, right + margin)),
            )
            yield (slice(top, bottom), slice(left, right)), outer


def _scene(rgba: np.ndarray, outer: Box, whole: Whole, colours: Array, factor: int) -> Scene:
    picture = _on_white(rgba[outer])
    if factor > 1:
        picture = np.clip(
            cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), 0, 1
        )
    return Scene(
        picture,
        whole,
        top=outer[0].start * factor,
        left=outer[1].start * factor,
        size=(rgba.shape[0] * factor, rgba.shape[1] * factor),
        colours=colours,
    )


def _crop(drawn: Array, factor: int, inner: Box, outer: Box) -> np.ndarray:
    if factor > 1:
        drawn = cv2.resize(drawn, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    top, left = inner[0].start - outer[0].start, inner[1].start - outer[1].start
    height, width = inner[0].stop - inner[0].start, inner[1].stop - inner[1].start
    part = drawn[top : top + height, left : left + width]
    return (np.clip(part, 0, 1) * 255 + 0.5).astype(np.uint8)


def _whole(rgba: np.ndarray, strength: float, seed: int) -> Whole:
    shrink = max(1, max(rgba.shape[:2]) // 2048)  # reduce in bytes first, which bounds the memory
    size = max(1, rgba.shape[1] // shrink), max(1, rgba.shape[0] // shrink)
    small = rgba if shrink == 1 else cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
    return whole_of(_on_white(small), small[..., 3].astype(np.float32) / 255, strength, seed)


def _on_white(rgba: np.ndarray) -> Array:
    colour = rgba[..., :3].astype(np.float32) / 255
    if rgba[..., 3].min() == 255:
        return colour
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.asarray(colour * alpha + 1 - alpha, np.float32)


def _colours(name: str, effect: Effect, palette: Sequence[str]) -> Array:
    most = len(effect.palette)
    if len(palette) > most and not effect.inks:
        raise BadBrief(f"{name} takes {most or 'no'} colours, not {len(palette)}: give fewer with palette")
    chosen = [*palette, *effect.palette[len(palette) :]]
    return np.array([ImageColor.getrgb(colour)[:3] for colour in chosen], np.float32).reshape(-1, 3) / 255
