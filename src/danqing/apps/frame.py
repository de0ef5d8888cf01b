"""How a picture of any size lies on a painter's canvas, and how what is painted comes back onto it.

A frame is a rectangle of the picture, which may reach beyond it, and the canvas that the rectangle fills.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from danqing.core.brief import Brief, sides_for_ratio
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, as in PIL; right and bottom are outside."""

_CLOSE = 2  # a picture longer than this many canvases is worked on around its region only
_AROUND = 0.5  # share of the region's side that is shown around it


@dataclass(frozen=True)
class Frame:
    """box: the rectangle in picture pixels. width, height: the canvas, in pixels of the finished picture."""

    box: Box
    width: int
    height: int

    @classmethod
    def around(cls, image: Image.Image, brief: Brief, card: Card) -> Frame:
        """All of a picture on a canvas of the brief's size, or of the one that suits the picture best.

        A painter of transparency keeps its own shape, with transparent margins; another paints the picture's
        shape.
        """
        return cls._of((0, 0, *image.size), brief, card)

    @classmethod
    def close(cls, region: Image.Image, brief: Brief, card: Card) -> Frame:
        """Where a picture is much larger than a canvas, only the surroundings of its region; else all of it.

        region: mode "L", the picture's size, not 0 where to repaint.
        """
        found = region.getbbox()
        assert found is not None, "an empty region is refused before"
        if max(region.size) <= _CLOSE * max(card.width, card.height) * card.scale:
            return cls._of((0, 0, *region.size), brief, card)
        left, top, right, bottom = found
        margin = int(max(right - left, bottom - top) * _AROUND)
        inside = (left - margin, top - margin, right + margin, bottom + margin)
        return cls._of(_clipped(inside, region.size), brief, card)

    @classmethod
    def _of(cls, box: Box, brief: Brief, card: Card) -> Frame:
        width, height = _canvas(box, brief, card)
        left, top, right, bottom = box
        wide, high = right - left, bottom - top
        if Can.ALPHA not in card.can and not (brief.width and brief.height):
            return cls(box, width, height)  # the canvas has the box's shape but for the grid's rounding
        scale = max(wide / width, high / height)
        wider, higher = round(width * scale) - wide, round(height * scale) - high
        left, top = left - wider // 2, top - higher // 2
        return cls((left, top, left + wide + wider, top + high + higher), width, height)

    def cut(self, image: Image.Image, scale: int) -> Image.Image:
        """The rectangle at the painter's native size, `scale` times smaller than the canvas.

        Beyond the picture it is transparent.
        """
        size = (self.width // scale, self.height // scale)
        whole = image.crop(self.box) if image.mode == "L" else image.convert("RGBA").crop(self.box)
        return whole.resize(
            size, Image.Resampling.LANCZOS if min(whole.size) > min(size) else Image.Resampling.BICUBIC
        )

    def region(self, mask: Image.Image, scale: int) -> Image.Image:
        """A mask at native size: a pixel that holds any of the region belongs to it."""
        cut = mask.crop(self.box).point(lambda value: 255 if value else 0)
        small = cut.resize((self.width // scale, self.height // scale), Image.Resampling.BOX)
        return small.point(lambda value: 255 if value else 0)

    def shown(self, painted: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The part of a painted canvas that shows the picture (of `size`), at the canvas's resolution."""
        left, top, right, bottom = self.box
        across, down = painted.width / (right - left), painted.height / (bottom - top)
        inside = _clipped(self.box, size)
        part = (
            round((inside[0] - left) * across),
            round((inside[1] - top) * down),
            round((inside[2] - left) * across),
            round((inside[3] - top) * down),
        )
        return painted if part == (0, 0, *painted.size) else painted.crop(part)

    def laid(self, painted: Image.Image, size: tuple[int, int]) -> Image.Image:
        """A painted canvas back at its place and resolution on an empty picture of `size`, RGBA."""
        left, top, right, bottom = self.box
        whole = painted.convert("RGBA").resize((right - left, bottom - top), Image.Resampling.BICUBIC)
        picture = Image.new("RGBA", size)
        picture.paste(whole, (left, top))
        return picture


def composite(original: Image.Image, painted: Image.Image, cover: Image.Image) -> Image.Image:
    """`painted` over `original` (same size) by `cover` ("L", 0 = the original's very bytes).

    Colours are mixed by how opaque they are, so a transparent pixel's colour never shows.
    """
    old, new = (np.asarray(image.convert("RGBA")).astype(np.float32) / 255 for image in (original, painted))
    amount = (np.asarray(cover).astype(np.float32) / 255)[..., None]
    alpha = old[..., 3:] * (1 - amount) + new[..., 3:] * amount
    colour = old[..., :3] * old[..., 3:] * (1 - amount) + new[..., :3] * new[..., 3:] * amount
    mixed = np.concatenate([colour / np.maximum(alpha, 1e-6), alpha], axis=-1)
    after = Image.fromarray((mixed.clip(0, 1) * 255).round().astype(np.uint8))
    if original.mode == "RGB":  # what is painted on transparency stands on white there
        ground = Image.new("RGBA", original.size, "white")
        after = Image.alpha_composite(ground, after).convert("RGB")
    kept = cover.point(lambda value: 0 if value else 255)
    after.paste(original, mask=kept)
    return after


def feathered(mask: Image.Image, width: int) -> Image.Image:
    """A mask ("L") that rises from 0 at its border to itself `width` pixels inside; never outside of it."""
    if width == 0:
        return mask
    size = 2 * max(1, width // 2) + 1
    # beyond the picture's edge the region goes on: there is nothing to blend with
    wide = Image.fromarray(np.pad(np.asarray(mask), size, mode="edge"))
    inner = wide.filter(ImageFilter.MinFilter(size)).filter(ImageFilter.BoxBlur(size // 2))
    return ImageChops.multiply(inner.crop((size, size, size + mask.width, size + mask.height)), mask)


def checked_mask(mask: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    """A mask ("L", 255 = repaint) from a picture: white repaints; or where it has transparency, that does.

    Raises:
        BadBrief: of another size, empty, or full.
    """
    if mask.size != size:
        raise BadBrief(
            f"mask {name} is {mask.width}x{mask.height}, the picture {size[0]}x{size[1]}: make them the same"
        )
    grey = ImageChops.invert(mask.getchannel("A")) if "A" in mask.getbands() else Image.new("L", size)
    if grey.getbbox() is None:  # opaque, so its brightness counts
        grey = mask.convert("L")
    if grey.getbbox() is None:
        raise BadBrief(f"mask {name} is empty: paint white, or transparent, what shall be repainted")
    if np.asarray(grey).min() == 255:
        raise BadBrief(f"mask {name} covers the whole picture: use redraw, or leave black what shall stay")
    return grey


def _canvas(box: Box, brief: Brief, card: Card) -> tuple[int, int]:
    scale = 1 if brief.native else card.scale
    if brief.width or brief.height or Can.ALPHA in card.can:
        return brief.width or card.width * scale, brief.height or card.height * scale
    wide, high = box[2] - box[0], box[3] - box[1]
    shape = min(4.0, max(0.25, wide / high))
    return sides_for_ratio(f"{max(1, round(shape * 1000))}:1000", card, native=brief.native)


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    left, top, right, bottom = box
    return max(0, left), max(0, top), min(size[0], right), min(size[1], bottom)
