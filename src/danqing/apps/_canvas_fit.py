"""Fits a picture of any size onto a painter's canvas, and pastes the painted canvas back onto the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from danqing.core.brief import RATIO_MAX, sides_like
from danqing.core.card import Can, Card
from danqing.core.field_groups import Size

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, as in PIL; right and bottom are outside."""

_CLOSE = 2  # of a picture longer than this many canvases, only the part around its region is used
_BAND = 2**19  # most pixels that are in memory as floats at once
_AROUND = 0.5  # margin around the region, as a fraction of its side


@dataclass(frozen=True)
class CanvasFit:
    """A rectangle of the picture and the canvas that it fills.

    box: the rectangle in pixels of the picture; it may reach beyond the picture.
    width, height: the size of the canvas in pixels of the finished picture.
    """

    box: Box
    width: int
    height: int

    @classmethod
    def around(cls, image: Image.Image, chosen: Size, card: Card) -> CanvasFit:
        """The whole picture on a canvas of the chosen size, or of the size that fits the picture best.

        For a painter with alpha or with one size only, the canvas has the painter's own shape, and the
        picture gets margins. For other painters, the canvas has the shape of the picture.
        """
        return cls._of((0, 0, *image.size), chosen, card)

    @classmethod
    def close(cls, region: Image.Image, chosen: Size, card: Card) -> CanvasFit:
        """The part around the region if the picture is much larger than a canvas, else the whole picture.

        region: mode "L", of the picture's size, not 0 where to repaint.
        """
        inner = region.getbbox()
        assert inner is not None, "an empty region is refused before"
        if max(region.size) <= _CLOSE * max(card.width, card.height) * card.scale:
            return cls._of((0, 0, *region.size), chosen, card)
        canvas = card.width * card.scale, card.height * card.scale  # no enlargement: it shows too little
        (left, top, right, bottom), margins = inner, []
        for low, high, side in ((left, right, canvas[0]), (top, bottom, canvas[1])):
            margins.append(max(int((high - low) * _AROUND), (side - (high - low) + 1) // 2))
        inside = left - margins[0], top - margins[1], right + margins[0], bottom + margins[1]
        return cls._of(_clip(inside, region.size), chosen, card)

    @classmethod
    def _of(cls, box: Box, chosen: Size, card: Card) -> CanvasFit:
        width, height = _canvas(box, chosen, card)
        left, top, right, bottom = box
        wide, high = right - left, bottom - top
        free = not (_keeps_shape(card) or chosen.width or chosen.height)
        if free and 1 / RATIO_MAX <= wide / high <= RATIO_MAX:
            return cls(box, width, height)  # of the box's shape, rounded to multiples
        scale = max(wide / width, high / height)
        wider, higher = round(width * scale) - wide, round(height * scale) - high
        left, top = left - wider // 2, top - higher // 2
        return cls((left, top, left + wide + wider, top + high + higher), width, height)

    def cut(self, image: Image.Image, scale: int) -> Image.Image:
        """The rectangle as RGBA at the painter's native size, `scale` times smaller than the canvas.

        The area beyond the picture is transparent.
        """
        inside = _clip(self.box, image.size)
        place = self._on_canvas(inside, (self.width // scale, self.height // scale))
        size = place[2] - place[0], place[3] - place[1]
        shrinks = size[0] < inside[2] - inside[0]
        how = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
        canvas = Image.new("RGBA", (self.width // scale, self.height // scale))
        canvas.paste(image.crop(inside).resize(size, how).convert("RGBA"), place[:2])
        return canvas

    def region(self, mask: Image.Image, scale: int) -> Image.Image:
        """A mask at native size; a pixel is inside if any part of it is."""
        inside = _clip(self.box, mask.size)
        place = self._on_canvas(inside, (self.width // scale, self.height // scale))
        size = place[2] - place[0], place[3] - place[1]
        # as floats, because the mean of a single pixel would round to 0
        mean = mask.crop(inside).convert("F").resize(size, Image.Resampling.BOX)
        canvas = Image.new("L", (self.width // scale, self.height // scale))
        canvas.paste(Image.fromarray(((np.asarray(mean) > 0) * 255).astype(np.uint8)), place[:2])
        return canvas

    def crop_to_picture(self, painted: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The part of a painted canvas inside the picture (of `size`), at the resolution of the canvas."""
        part = self._on_canvas(_clip(self.box, size), painted.size)
        return painted if part == (0, 0, *painted.size) else painted.crop(part)

    def paste_over(self, painted: Image.Image, over: Image.Image, cover: Image.Image) -> Image.Image:
        """Paste a painted canvas onto `over` at its place, by `cover`; see `composite`.

        Only the covered area is computed, some rows at a time, so a small region of a large picture takes
        little time, and a large region little memory.
        """
        inside = _clip(self.box, over.size)
        new = self.crop_to_picture(painted, over.size).convert("RGBA")
        done, box = over.copy(), cover.getbbox()
        if box is not None:
            left, top, right, bottom = box
            for first, last in _bands(top, bottom, right - left):
                band = left, first, right, last
                part = _stretched_part(new, inside, band)
                done.paste(composite(over.crop(band), part, cover.crop(band)), band[:2])
        return done

    def _on_canvas(self, box: Box, size: tuple[int, int]) -> Box:
        """The box on a canvas of `size` of a rectangle of the picture, at least one pixel wide and high."""
        left, top, right, bottom = self.box
        across, down = size[0] / (right - left), size[1] / (bottom - top)
        x, y = round((box[0] - left) * across), round((box[1] - top) * down)
        return (
            min(x, size[0] - 1),
            min(y, size[1] - 1),
            max(round((box[2] - left) * across), x + 1),
            max(round((box[3] - top) * down), y + 1),
        )


def _bands(first: int, last: int, width: float) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about half a million pixels each, so that arrays of floats stay small."""
    rows = max(1, int(_BAND / max(width, 1)))
    for start in range(first, last, rows):
        yield start, min(start + rows, last)


def _stretched_part(image: Image.Image, over: Box, part: Box) -> Image.Image:
    """The box `part` of an image that is resized to the box `over`, without resizing all of it."""
    across, down = image.width / (over[2] - over[0]), image.height / (over[3] - over[1])
    left, top = (part[0] - over[0]) * across, (part[1] - over[1]) * down
    right, bottom = (part[2] - over[0]) * across, (part[3] - over[1]) * down
    source = left, top, min(right, image.width), min(bottom, image.height)
    return image.resize((part[2] - part[0], part[3] - part[1]), Image.Resampling.BICUBIC, source)


def composite(original: Image.Image, painted: Image.Image, cover: Image.Image) -> Image.Image:
    """Mix `painted` over `original` (same size) by `cover` (mode "L", 0 = exactly the original).

    Colours are weighted by alpha, so the colour of a transparent pixel has no effect.
    """
    old, new = (np.asarray(image.convert("RGBA")).astype(np.float32) / 255 for image in (original, painted))
    amount = (np.asarray(cover).astype(np.float32) / 255)[..., None]
    alpha = old[..., 3:] * (1 - amount) + new[..., 3:] * amount
    colour = old[..., :3] * old[..., 3:] * (1 - amount) + new[..., :3] * new[..., 3:] * amount
    mixed = np.concatenate([colour / np.maximum(alpha, 1e-6), alpha], axis=-1)
    after = Image.fromarray((mixed.clip(0, 1) * 255).round().astype(np.uint8))
    if original.mode == "RGB":  # the original has no alpha: paint on white
        ground = Image.new("RGBA", original.size, "white")
        after = Image.alpha_composite(ground, after).convert("RGB")
    kept = cover.point(lambda value: 0 if value else 255)
    after.paste(original, mask=kept)
    return after


def feather(mask: Image.Image, width: int) -> Image.Image:
    """Feather a mask ("L"): it rises from 0 at its border to its full value within `width` pixels inside.

    Where the mask is narrower, it has the full value along its middle, so that a scratch is still repainted.
    """
    box = mask.getbbox()
    if width <= 1 or box is None:
        return mask
    # at the edge of the picture the region continues, because there is nothing to blend with
    wide = np.pad(np.asarray(mask), width, mode="edge")
    left, top, right, bottom = box
    around = Image.fromarray(wide[top : bottom + 2 * width, left : right + 2 * width])
    cover = ImageChops.multiply(_ramp(around, width), around)
    done = Image.new("L", mask.size)
    done.paste(cover.crop((width, width, cover.width - width, cover.height - width)), (left, top))
    return done


def _ramp(mask: Image.Image, width: int) -> Image.Image:
    """The distance of each pixel from the border, relative to `width` or to the largest distance nearby.

    255 is the full distance.
    """
    inside = mask.point(lambda value: 255 if value else 0)
    depth = np.zeros((mask.height, mask.width), np.uint8)
    for _ in range(width):
        depth += np.asarray(inside) > 0
        inside = inside.filter(ImageFilter.MinFilter(3))
    ridge = Image.fromarray(depth)
    for _ in range(width):
        ridge = ridge.filter(ImageFilter.MaxFilter(3))
    deepest = np.maximum(np.asarray(ridge), 1)
    for first, last in _bands(0, mask.height, mask.width):
        depth[first:last] = (depth[first:last] / deepest[first:last] * 255).round()
    return Image.fromarray(depth)


def _canvas(box: Box, chosen: Size, card: Card) -> tuple[int, int]:
    scale = 1 if chosen.native else card.scale
    if chosen.width or chosen.height or _keeps_shape(card):
        return chosen.width or card.width * scale, chosen.height or card.height * scale
    return sides_like((box[2] - box[0], box[3] - box[1]), card, native=chosen.native)


def _keeps_shape(card: Card) -> bool:
    return Can.ALPHA in card.can or card.one_size


def _clip(box: Box, size: tuple[int, int]) -> Box:
    left, top, right, bottom = box
    return max(0, left), max(0, top), min(size[0], right), min(size[1], bottom)
