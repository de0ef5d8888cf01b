"""ICC profiles by hand (ICC.1:2001-04), since Pillow makes none but sRGB."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np

# colorants relative to D50, as their makers publish them
P3 = np.array([[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]])


def rgb_profile(colorants: np.ndarray, gamma: float | None = None, name: str = "Display P3") -> bytes:
    """Of a screen; its curve is that of sRGB where there is no gamma."""
    columns = {f"{c}XYZ".encode(): _xyz(*colorants[:, k]) for k, c in enumerate("rgb")}
    curves = {f"{c}TRC".encode(): _curve(gamma) for c in "rgb"}
    return _profile(b"mntr", b"RGB ", b"XYZ ", name, {**columns, **curves})


def grey_profile(gamma: float, name: str = "Dot gain") -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", name, {b"kTRC": _curve(gamma)})


def cmyk_profile(name: str = "Ink") -> bytes:
    """Of a press whose inks are a little muddy: a table of the 16 corners, in Lab."""
    table = b""
    for c, m, y, k in product((0, 1), repeat=4):
        light = 240 * (1 - 0.9 * k) * (1 - 0.25 * c) * (1 - 0.3 * m) * (1 - 0.05 * y)
        a, b = (128 + (1 - k) * (-40 * c + 70 * m - 5 * y), 128 + (1 - k) * (-45 * c - 5 * m + 85 * y))
        table += bytes([round(light), round(min(a, 255)), round(min(b, 255))])
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (k in (0, 4, 8)) for k in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + table + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", name, {b"A2B0": lut})


def srgb_curve(values: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] as sRGB in [0, 255]."""
    values = values.clip(0, 1)
    return 255 * np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def linear(values: np.ndarray) -> np.ndarray:
    """sRGB in [0, 255] as linear light in [0, 1]."""
    values = values / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _profile(kind: bytes, space: bytes, pcs: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode() + b"\0"
    desc = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": desc, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(0.9642, 1, 0.8249), **tags}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    date = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    head = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, kind, space, pcs) + date
    head += b"acsp" + bytes(28) + _xyz(0.9642, 1, 0.8249)[8:] + bytes(48)
    return head + table + body


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * v) for v in (x, y, z)))


def _curve(gamma: float | None) -> bytes:
    if gamma is not None:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma))
    parts = 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045
    return (
        b"para" + bytes(4) + struct.pack(">HH", 3, 0) + struct.pack(">5i", *(round(65536 * p) for p in parts))
    )
