"""Converts pictures of any colour space to sRGB; all other modules assume sRGB."""

from __future__ import annotations

import io
import struct
from itertools import product
from typing import cast

from PIL import Image, ImageChops, ImageCms

from danqing.core.errors import shorten

SAME = 1  # of 255: a profile that changes no channel by more is treated as sRGB

_MODE_OF_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
_PNG_GAMMA, _GAMMA_OFF = 1 / 2.2, 0.01
_EXIF, _COLOUR_SPACE, _INTEROP, _INDEX = 0x8769, 0xA001, 0xA005, 1
_ADOBE_RGB = 2  # EXIF's ColorSpace of some cameras; others write the interoperability index R03


def to_srgb(image: Image.Image) -> tuple[Image.Image, str]:
    """Convert a picture of mode L, LA, RGB, RGBA, CMYK or LAB to sRGB.

    Uses the ICC profile of the picture, with the relative colorimetric intent and black point compensation;
    alpha is kept. Pixels stay the same, byte for byte, where there is no profile or the profile is sRGB. The
    profile is removed from `image` itself, which may be the picture that is returned.

    Returns:
        The picture without a profile, and a note of what was done; "" where there was no profile.
    """
    data = image.info.pop("icc_profile", None)
    if not data:
        return image, ""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space = profile.profile.xcolor_space.strip()
        if space == "RGB" and image.mode in ("L", "LA"):
            image = image.convert("RGBA" if image.mode == "LA" else "RGB")
        mode = image.mode.removesuffix("A")
        if _MODE_OF_SPACE.get(space) != mode:
            return image, f"has a colour profile for {_printable(space)}, not for {mode}: it is ignored"
        name = _printable(ImageCms.getProfileDescription(profile))
        converted = _convert(image, profile, mode)
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):  # a damaged profile can raise any of these
        return image, "has a damaged colour profile, which is ignored"
    if converted is image:
        return image, f"has the colour profile {name!r}, which is sRGB: its colours stay as they are"
    return converted, f"is converted from the colours of {name!r} to sRGB"


def unread_colour(image: Image.Image) -> str:
    """A note on colour information that is ignored for lack of an ICC profile; "" if there is none."""
    if image.info.get("icc_profile"):
        return ""
    gamma = image.info.get("gamma")
    if isinstance(gamma, float) and "srgb" not in image.info and abs(gamma - _PNG_GAMMA) > _GAMMA_OFF:
        return f"says gamma {gamma:g} without a colour profile: it is read as sRGB"
    if "exif" in image.info and _is_adobe_rgb(image.getexif()):
        return "says Adobe RGB without a colour profile: it is read as sRGB"
    return ""


def _convert(image: Image.Image, profile: ImageCms.ImageCmsProfile, mode: str) -> Image.Image:
    """The picture in sRGB; the same object where the profile is sRGB already."""
    transform = ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    probe = _probe(mode)
    if probe is not None:
        moved = ImageCms.applyTransform(probe, transform)
        assert moved is not None, "only a transform in place gives nothing"
        if max(most for _, most in _extrema(ImageChops.difference(moved, probe.convert("RGB")))) <= SAME:
            return image
    alpha = image.getchannel("A") if "A" in image.getbands()[1:] and mode != "LAB" else None
    colour = image if alpha is None else image.convert(mode)
    done = ImageCms.applyTransform(colour, transform)
    assert done is not None, "only a transform in place gives nothing"
    if alpha is not None:
        done.putalpha(alpha)
    del done.info["icc_profile"]  # ImageCms attaches the sRGB profile
    return done


def _probe(mode: str) -> Image.Image | None:
    """One row of colours from the whole space; None for a mode whose pixels must change anyhow."""
    if mode == "L":
        return Image.frombytes("L", (256, 1), bytes(range(256)))
    if mode != "RGB":
        return None
    colours = bytes(value for colour in product(range(0, 256, 15), repeat=3) for value in colour)
    return Image.frombytes("RGB", (len(colours) // 3, 1), colours)


def _extrema(image: Image.Image) -> tuple[tuple[int, int], ...]:
    return cast("tuple[tuple[int, int], ...]", image.getextrema())


def _is_adobe_rgb(exif: Image.Exif) -> bool:
    try:
        facts = exif.get_ifd(_EXIF)
        index = exif.get_ifd(_INTEROP).get(_INDEX) if _INTEROP in facts else None
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):  # damaged
        return False
    return facts.get(_COLOUR_SPACE) == _ADOBE_RGB or index == "R03"


def _printable(text: str | None) -> str:
    """The text of a profile on one line of printable characters: it is untrusted and goes to a terminal."""
    return shorten("".join(c if c.isprintable() else " " for c in text or "").strip(), 40)
