"""Converts pictures between the formats of other programs and ours."""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image, ImageOps

from danqing.studio.errors import UnsupportedFormat
from danqing.studio.uploads import BYTES_MAX


def from_base64(text: str) -> bytes:
    """Decode a picture in base64, with or without the prefix `data:image/png;base64,`.

    Raises:
        UnsupportedFormat: it is not base64; a URL is not downloaded.
    """
    if text[:8].lower().startswith(("http:", "https:")):
        raise UnsupportedFormat("pictures are not fetched from addresses: send their bytes in base64")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode("".join(text[: 2 * BYTES_MAX].split()), validate=True)
    except (binascii.Error, ValueError):
        raise UnsupportedFormat("the picture is no base64: send its bytes in base64") from None
    return data


def to_base64(data: bytes) -> str:
    """Encode bytes as base64, without a prefix."""
    return base64.b64encode(data).decode()


def convert(data: bytes, form: str, quality: int = 95) -> bytes:
    """Convert a PNG to `form`: "png" (unchanged), "jpeg" (over white) or "webp"."""
    if form == "png":
        return data
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        clear = image.has_transparency_data
        plain = image.convert("RGBA" if clear else "RGB")
    if form == "jpeg" and clear:
        plain = Image.alpha_composite(Image.new("RGBA", plain.size, "white"), plain).convert("RGB")
    buffer = io.BytesIO()
    plain.save(buffer, form.upper(), quality=quality)
    return buffer.getvalue()


def mask_of_alpha(data: bytes) -> bytes:
    """Convert OpenAI's mask, transparent where to paint, to ours: white where to paint.

    Raises:
        UnsupportedFormat: it is not a PNG, or has no transparency.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if not image.has_transparency_data:
                raise UnsupportedFormat("the mask has no transparency: make it transparent where to paint")
            alpha = image.convert("RGBA").getchannel("A")
    except OSError:
        raise UnsupportedFormat("the mask is no PNG: send one that is transparent where to paint") from None
    buffer = io.BytesIO()
    alpha.point(lambda value: 255 if value == 0 else 0).save(buffer, "PNG")
    return buffer.getvalue()


def white_mask(data: bytes, invert: bool) -> bytes:
    """Convert A1111's mask, white where to paint, in any mode, to ours, without transparency.

    invert: whether it is black where to paint.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            ground = Image.new("RGBA", image.size, "black")
            mask = Image.alpha_composite(ground, image.convert("RGBA")).convert("L")
    except OSError:
        raise UnsupportedFormat("the mask is no picture: send one that is white where to paint") from None
    buffer = io.BytesIO()
    (ImageOps.invert(mask) if invert else mask).point(lambda value: 255 if value > 127 else 0).save(
        buffer, "PNG"
    )
    return buffer.getvalue()
