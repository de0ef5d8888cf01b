"""Whether a picture is a photo, by its pixels alone. Needs no torch."""

from __future__ import annotations

import numpy as np
from PIL import Image


def is_photo(image: Image.Image) -> bool:
    """Whether a picture is rather a photo than a drawing, a screenshot, a scan or line art."""
    return photo_likeness(image) > 0.5


def photo_likeness(image: Image.Image) -> float:
    """How likely a picture is a photo, in [0, 1]."""
    small = image.convert("RGB")
    small.thumbnail((256, 256), Image.Resampling.BOX)
    pixels = np.asarray(small, np.int16)
    changes = np.abs(np.diff(pixels, axis=1)).max(axis=-1)
    shaded = float(((changes > 0) & (changes < 24)).mean())
    colours = len(np.unique(pixels.reshape(-1, 3) >> 3, axis=0))
    return float(shaded > 0.45 and colours > 300)
