"""Masks as programs export them: what is repainted, what is said, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from danqing.apps._mask_image import read_mask
from danqing.apps.inpaint import inpaint
from danqing.core.errors import BadBrief
from danqing.core.source_image import read_source
from danqing.families.stable_diffusion.painter import random_painter

SIZE = 80, 60
BOX = 20, 15, 39, 34  # a square of 20 pixels, 1/12 of the picture


def photo(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize(SIZE, Image.Resampling.BICUBIC)


def shape(
    ground: int | str | tuple[int, ...],
    colour: int | str | tuple[int, ...],
    box: tuple[int, ...] = BOX,
    mode: str = "RGBA",
) -> Image.Image:
    image = Image.new(mode, SIZE, ground)
    ImageDraw.Draw(image).rectangle(box, fill=colour)
    return image


def hole(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.paste((0, 0, 0, 0), (BOX[0], BOX[1], BOX[2] + 1, BOX[3] + 1))
    return image


def soft_brush() -> Image.Image:
    image = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    image.putalpha(shape(0, 255, mode="L").filter(ImageFilter.GaussianBlur(1)))
    return image


def dithered(image: Image.Image) -> Image.Image:
    return image.quantize(4)


INSIDE = {  # mask, and what is said to be repainted
    "grey": (shape(0, 255, mode="L"), "white"),
    "bits": (shape(0, 1, mode="1"), "white"),
    "colours": (shape("black", "white", mode="RGB"), "white"),
    "palette": (dithered(shape("black", "white", mode="RGB")), "white"),
    "opaque alpha": (shape("black", "white"), "white"),
    "white on transparent": (shape((255, 255, 255, 0), "white"), "what is drawn"),
    "white on black that is transparent": (shape((0, 0, 0, 0), "white"), "what is drawn"),
    "black on transparent": (shape((0, 0, 0, 0), "black"), "what is drawn"),
    "black on white that is transparent": (shape((255, 255, 255, 0), "black"), "what is drawn"),
    "red on transparent": (shape((0, 0, 0, 0), "red"), "what is drawn"),
    "a soft brush": (soft_brush(), "what is drawn"),
    "grey and alpha": (shape((0, 0, 0, 0), "white").convert("LA"), "what is drawn"),
    "a hole in the picture": (hole(photo()), "what is transparent"),
    "a hole in another picture": (hole(photo(1)), "what is transparent"),
    "a hole in black": (hole(Image.new("RGB", SIZE)), "what is transparent"),
    "a hole in a colour": (hole(Image.new("RGB", SIZE, "navy")), "what is transparent"),
}


@pytest.mark.parametrize("name", INSIDE)
def test_the_square_is_repainted_however_it_is_exported(tmp_path: Path, name: str) -> None:
    mask, what = INSIDE[name]
    mask.save(tmp_path / "m.png")
    read = read_mask(read_source(tmp_path / "m.png").image, photo(), "'m.png'")
    expected = np.asarray(shape(0, 255, mode="L")) > 0
    sure = np.asarray(read.region)
    assert ((sure >= 128) != expected).mean() < 0.002, "a soft brush is rounder at its corners"
    assert read.note.startswith(f"mask 'm.png': {what} is repainted, ")
    share = float(read.note.split(", ")[1].split(" %")[0])
    assert share == pytest.approx(100 / 12, abs=3 if name == "a soft brush" else 0.1)
    turned = read_mask(read_source(tmp_path / "m.png").image, photo(), "'m.png'", invert=True)
    assert ((np.asarray(turned.region) >= 128) != ~expected).mean() < 0.002
    assert f"all but {what} is repainted" in turned.note


def test_layers_of_black_and_white_with_transparency_around() -> None:
    """White shape on a black card, transparent beyond it: white is repainted, the rest stays."""
    card = Image.new("RGBA", SIZE)
    ImageDraw.Draw(card).rectangle((5, 5, 70, 50), fill="black")
    ImageDraw.Draw(card).rectangle(BOX, fill="white")
    read = read_mask(card, photo(), "m")
    assert ((np.asarray(read.region) > 0) == (np.asarray(shape(0, 255, mode="L")) > 0)).all()
    line_art = hole(shape("white", "black", (50, 10, 70, 50), mode="RGB"))
    kept = read_mask(line_art, line_art.convert("RGB"), "m")
    assert "what is transparent" in kept.note, "a hole in a copy of a black and white picture"


def test_a_jpeg_of_a_mask_is_what_it_was_before(tmp_path: Path) -> None:
    shape(0, 255, mode="L").save(tmp_path / "m.jpg", quality=60)
    region = np.asarray(read_mask(read_source(tmp_path / "m.jpg").image, photo(), "m").region)
    far = np.asarray(shape(0, 255, (10, 5, 49, 44), mode="L")) == 0
    assert (region[far] == 0).all()
    back = read_mask(read_source(tmp_path / "m.jpg").image, photo(), "m", invert=True)
    assert (np.asarray(back.region)[16:34, 21:39] == 0).mean() > 0.9


def test_grey_is_repainted_in_part() -> None:
    half = shape(0, 128, mode="L").convert("RGB")
    assert read_mask(half, photo(), "m").region.getpixel((25, 25)) == 128


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (Image.new("RGB", (60, 80)), "is 60x80, the picture 80x60"),
        (Image.new("RGB", SIZE), "is empty: paint white"),
        (Image.new("RGB", SIZE, (5, 5, 5)), "is empty"),
        (Image.new("RGBA", SIZE), "is empty"),
        (Image.new("RGB", SIZE, "white"), "covers the whole picture: use redraw"),
        (Image.new("RGB", SIZE, (250, 250, 250)), "covers the whole picture"),
        (Image.new("RGB", SIZE, (128, 128, 128)), "is grey all over (128)"),
    ],
)
@pytest.mark.parametrize("invert", [False, True])
def test_a_mask_that_cannot_be_meant_is_one_line(mask: Image.Image, said: str, invert: bool) -> None:
    with pytest.raises(BadBrief) as refusal:
        read_mask(mask, photo(), "'m'", invert=invert)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@settings(max_examples=40)
@given(
    box=st.tuples(st.integers(2, 30), st.integers(2, 20), st.integers(34, 60), st.integers(24, 44)),
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    under=st.tuples(*[st.integers(0, 255)] * 3),
)
def test_a_brush_of_any_colour_marks_what_it_covers(box: Any, colour: Any, under: Any) -> None:
    drawn = shape((*under, 0), (*colour, 255), box)
    region = np.asarray(read_mask(drawn, photo(), "m").region)
    assert ((region > 0) == (np.asarray(shape(0, 255, box, mode="L")) > 0)).all()


def test_a_speck_is_seen_and_said() -> None:
    dot = Image.new("RGB", SIZE)
    dot.putpixel((9, 9), (255, 255, 255))
    assert "less than 0.1 %" in read_mask(dot, photo(), "m").note
    assert read_mask(dot, photo(), "m").region.getbbox() == (9, 9, 10, 10)


def test_the_app_repaints_what_is_said() -> None:
    painter, photo_ = random_painter("tiny"), photo()
    for invert in (False, True):
        fields = {"steps": 2, "seed": 1, "feather": 0, "invert_mask": invert, "anyway": True}
        [done] = inpaint(photo_, "a cat", mask=shape((0, 0, 0, 0), "black"), painter=painter, **fields)
        kept = (np.asarray(shape(0, 255, mode="L")) > 0) == invert
        assert (np.asarray(done.image)[kept] == np.asarray(photo_)[kept]).all()
        assert (np.asarray(done.image)[~kept] != np.asarray(photo_)[~kept]).any(-1).mean() > 0.9
