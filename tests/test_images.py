"""Tensors and pictures: colour, transparency, sheets."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from danqing.core.errors import BadBrief, NotFinite
from danqing.core.images import from_pil, grid, to_pil


def rgba(seed: int, size: int = 9) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (size, size + 2, 4), np.uint8), "RGBA"
    )


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_straight_colour_survives_the_painters_format(seed: int) -> None:
    image = rgba(seed)
    (back,) = to_pil(from_pil(image)[None], "transparent")
    then, now = np.asarray(image).astype(int), np.asarray(back).astype(int)
    visible = then[..., 3] >= 16
    assert (now[visible] == then[visible]).all()
    assert (now[~visible] == [255, 255, 255, 0]).all()  # haze is gone, and white: no dark fringe when scaled


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(["white", "#ff8000", "#000000"]))
def test_a_background_is_what_compositing_gives(seed: int, background: str) -> None:
    image = rgba(seed)
    (flat,) = to_pil(from_pil(image)[None], background)
    array = np.array(image)
    array[array[..., 3] < 16] = 0  # haze is nothing, on any ground
    image = Image.fromarray(array)
    truth = Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")
    assert flat.mode == "RGB"
    assert np.abs(np.asarray(flat).astype(int) - np.asarray(truth)).max() <= 1


def test_values_beyond_the_range_are_clipped() -> None:
    (image,) = to_pil(torch.tensor([-9.0, 0.0, 9.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2))
    assert image.getpixel((0, 0)) == (0, 128, 255)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_no_black_picture_is_made_of_nan(bad: float) -> None:
    pixels = torch.zeros(3, 4, 2, 2)
    pixels[1, 0, 0, 0] = bad
    with pytest.raises(NotFinite, match="picture 2 of 3"):
        to_pil(pixels)


@pytest.mark.parametrize("background", ["transparent", "#ffffff"])
def test_three_channels_know_white_only(background: str) -> None:
    with pytest.raises(BadBrief, match="transparency"):
        to_pil(torch.zeros(1, 3, 2, 2), background)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La", "CMYK", "YCbCr", "HSV", "F"]
)
def test_any_mode_becomes_the_painters_format(mode: str) -> None:
    image = Image.new("RGB", (4, 3), (255, 255, 255))
    through = {"RGBa": "RGBA", "La": "LA", "PA": "P", "F": "L"}.get(mode)
    image = image.convert(through).convert(mode) if through and mode != "PA" else image.convert(mode)
    pixels = from_pil(image)
    assert pixels.shape == (4, 3, 4)
    assert pixels.min() >= 0.97, "white and opaque in any mode"


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    image = Image.fromarray(np.full((2, 2), 32896, np.uint16))
    assert from_pil(image)[0, 0, 0].item() == pytest.approx(128 / 127.5 - 1, abs=1e-3)


def test_exif_turns_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, "JPEG", exif=exif)
    assert from_pil(Image.open(file)).shape == (4, 8, 4)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 3, 2), (9, 3, 3)]
)
def test_a_sheet_is_near_square_and_holds_every_picture(count: int, columns: int, rows: int) -> None:
    sheet = grid([Image.new("RGB", (64, 32), (k, 0, 0)) for k in range(count)])
    assert sheet.size == (columns * 66 - 2, rows * 34 - 2)
    corners = [sheet.getpixel((k % columns * 66, k // columns * 34)) for k in range(count)]
    assert corners == [(k, 0, 0) for k in range(count)]


def test_a_sheet_keeps_transparency_and_cells_exactly() -> None:
    one, two = rgba(1), rgba(2)
    sheet = grid([one, two])
    assert sheet.mode == "RGBA"
    assert sheet.crop((0, 0, *one.size)).tobytes() == one.tobytes()
    assert sheet.crop((one.width + 2, 0, *sheet.size)).tobytes() == two.tobytes()
    assert sheet.getpixel((one.width, 0))[3] == 0
