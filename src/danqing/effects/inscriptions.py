"""Adds a title in brush script (题字) and a red seal (印章) in an empty corner of a painting."""

from __future__ import annotations

from math import ceil, sqrt

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from danqing.core.fonts import find_font
from danqing.effects import _filters as f
from danqing.effects._regions import backdrop
from danqing.effects._scene import whole_of

_SEAL = (178, 32, 28)
_INK = (34, 30, 32)


def inscribe(image: Image.Image, *, title: str = "", seal: str = "", seed: int = 0) -> Image.Image:
    """The picture with a title in a column and a seal below it, in its emptiest upper or lower corner.

    Raises:
        BadBrief: no installed font has these characters.
    """
    font = find_font(title + seal)
    unit = sqrt(image.width * image.height) / 100
    height = len(title) * 5.2 * unit + (8 * unit if seal else 0)
    left, top = _place(image, round(7 * unit), round(height), round(4.5 * unit))
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    written = ImageFont.truetype(font, round(4.8 * unit))
    for k, character in enumerate(title):
        draw.text(
            (left + 3.5 * unit, top + (5.2 * k + 2.6) * unit), character, (*_INK, 235), written, anchor="mm"
        )
    if seal:
        stamp = _stamp(seal, font, max(12, round(6 * unit)), seed)
        layer.alpha_composite(stamp, (round(left + 0.5 * unit), round(top + len(title) * 5.2 * unit + unit)))
    return _over(image, layer)


def _place(image: Image.Image, width: int, height: int, margin: int) -> tuple[int, int]:
    """Left and top of the emptiest of four corners for an area of this size."""
    rgba = np.asarray(image.convert("RGBA"), np.float32) / 255
    whole = whole_of(rgba[..., :3], rgba[..., 3], strength=0.5, seed=0)
    scale = whole.alpha.shape[0] / image.height
    room = backdrop(whole) + 0.5 * f.lightness(whole.picture) - 3 * (whole.alpha < 0.5)
    tops = (margin, max(margin, image.height - margin - height))
    lefts = (max(margin, image.width - margin - width), margin)

    def emptiness(place: tuple[int, int]) -> float:
        left, top = (round(value * scale) for value in place)
        part = room[top : top + max(1, round(height * scale)), left : left + max(1, round(width * scale))]
        return float(part.mean()) if part.size else -1.0

    return max([(left, top) for top in tops for left in lefts], key=emptiness)


def _stamp(text: str, font: str, side: int, seed: int) -> Image.Image:
    """A square seal with white characters (白文) in columns from the right; its edge and face look worn."""
    rows = ceil(sqrt(len(text)))
    columns = ceil(len(text) / rows)
    big = 4 * side
    face = Image.new("L", (big, big), 0)
    draw = ImageDraw.Draw(face)
    draw.rounded_rectangle((0.02 * big, 0.02 * big, 0.98 * big, 0.98 * big), 0.08 * big, fill=255)
    width, height = 0.84 * big / columns, 0.84 * big / rows
    cut = ImageFont.truetype(font, round(0.98 * min(width, height)))
    for k, character in enumerate(text):
        x, y = 0.92 * big - (k // rows + 0.5) * width, 0.08 * big + (k % rows + 0.5) * height
        draw.text((x, y), character, 0, cut, anchor="mm", stroke_width=max(1, big // 160))
    noise = np.random.default_rng([seed, 7]).standard_normal((big // 2, big // 2)).astype(np.float32)
    worn = cv2.resize(f.blur(noise, 1.5), (big, big)) * 3
    inked = f.step(f.blur(np.asarray(face, np.float32) / 255, 2.0) + 0.13 * worn, 0.5, 0.25)
    alpha = Image.fromarray((inked * 240).astype(np.uint8)).resize((side, side), Image.Resampling.LANCZOS)
    stamp = Image.new("RGBA", (side, side), _SEAL)
    stamp.putalpha(alpha)
    return stamp


def _over(image: Image.Image, layer: Image.Image) -> Image.Image:
    made = image.convert("RGBA")
    made.alpha_composite(layer)
    return made if image.mode == "RGBA" else made.convert("RGB")
