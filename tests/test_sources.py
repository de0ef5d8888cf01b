"""Any picture that someone may give, and what is said of it."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from danqing.core.brief import Brief
from danqing.core.errors import BadPicture
from danqing.core.picture import Picture
from danqing.core.source_image import picture_id, read_source


def gradient(mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> Image.Image:
    x = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3).astype(np.uint8)
    return Image.fromarray(x).convert(mode)


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_plain_pictures_are_read_byte_for_byte_and_silently(tmp_path: Path) -> None:
    for mode in ("RGB", "RGBA", "L", "LA", "1"):
        image = gradient(mode)
        if "A" in mode:
            image.putalpha(100)
        source = read_source(saved(image, tmp_path / f"{mode}.png"))
        assert source.notes == ()
        assert source.image.mode == ("RGBA" if "A" in mode else "RGB")
        assert source.image.tobytes() == image.convert(source.image.mode).tobytes()
        assert source.name.endswith(f"{mode}.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_picture_with_an_alpha_channel_is_opaque(tmp_path: Path, mode: str) -> None:
    source = read_source(saved(gradient(mode), tmp_path / "a.png"))
    assert (source.image.mode, source.notes) == ("RGB", ())
    assert source.image.tobytes() == gradient(mode).convert("RGB").tobytes()


def test_floats_up_to_one_are_not_black(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 24 * 16, dtype=np.float32).reshape(16, 24)
    source = read_source(saved(Image.fromarray(values), tmp_path / "f.tif"))
    assert np.abs(np.asarray(source.image)[..., 0] - values * 255).max() <= 1
    whole = read_source(saved(Image.fromarray(values * 255), tmp_path / "g.tif"))
    assert np.abs(np.asarray(whole.image)[..., 0] - values * 255).max() <= 1


def test_the_previews_in_the_picture_of_a_phone_are_no_film(tmp_path: Path) -> None:
    gradient().save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[gradient(size=(12, 8))])
    source = read_source(tmp_path / "phone.jpg")
    assert (source.image.size, source.notes) == ((24, 16), ())


def test_what_is_converted_is_said(tmp_path: Path) -> None:
    cmyk = read_source(saved(gradient("CMYK"), tmp_path / "a.tiff"))
    assert (cmyk.image.mode, "from CMYK to RGB" in cmyk.notes[0]) == ("RGB", True)
    palette = gradient("P")
    palette.info["transparency"] = 0
    read = read_source(saved(palette, tmp_path / "p.png", transparency=0))
    assert (read.image.mode, "from P to RGBA" in read.notes[0]) == ("RGBA", True)


def test_sixteen_bits_keep_their_greys(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 16 * 16).reshape(16, 16).astype(np.uint16)
    source = read_source(saved(Image.fromarray(deep), tmp_path / "deep.png"))
    got = np.asarray(source.image)[..., 0].astype(float)
    assert np.abs(got - deep / 257).max() <= 1
    assert "16-bit grey" in source.notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_stands_upright(tmp_path: Path, orientation: int) -> None:
    image = gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = read_source(saved(image, tmp_path / "photo.png", exif=exif))
    assert turned.image.size == ((24, 16) if orientation < 5 else (16, 24))
    assert bool(turned.notes) == (orientation != 1)


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    source = read_source(tmp_path / "moving.gif")
    assert source.image.getpixel((8, 8)) == (255, 0, 0)
    assert any("animated" in note for note in source.notes)


def test_what_is_no_picture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>")
    whole = saved(gradient(size=(64, 64)), tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    saved(gradient(size=(7, 30)), tmp_path / "small.png")
    saved(Image.new("1", (10000, 10001)), tmp_path / "large.png")
    for name, said in {
        "none.png": "no picture",
        "empty.png": "is empty",
        "text.png": "is not a PNG",
        "cut.png": "damaged or cut short",
        "small.png": "7x30",
        "large.png": "at most 100 megapixels",
    }.items():
        with pytest.raises(BadPicture, match=said) as error:
            read_source(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_danqing_picture_brings_its_brief(tmp_path: Path) -> None:
    brief = Brief(prompt="a cat", seed=1, width=24, height=16, steps=2, guidance=1.0, sampler="ddim")
    path = Picture(gradient(), brief).save(tmp_path / "cat.png")
    assert read_source(path).brief == brief.complete()
    assert read_source(Picture.open(path)).brief == brief.complete()
    assert read_source(gradient()).brief is None


def test_the_id_is_of_the_pixels(tmp_path: Path) -> None:
    png, webp = saved(gradient(), tmp_path / "a.png"), saved(gradient(), tmp_path / "b.webp", lossless=True)
    assert read_source(png).id == read_source(webp).id == picture_id(gradient())
    assert picture_id(gradient(size=(16, 24))) != picture_id(gradient(size=(24, 16)))


@pytest.mark.parametrize("colours", [3, 4])
def test_sixteen_bits_of_colour_are_told(tmp_path: Path, colours: int) -> None:
    """Pillow writes none, so here is a PNG by hand: one chunk for the head, the pixels and the end."""
    pixels = np.full((16, 16, colours), 0x80FF, dtype=">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", 16, 16, 16, {3: 2, 4: 6}[colours], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    told = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(told))
    source = read_source(tmp_path / "deep.png")
    assert source.image.getpixel((3, 3))[:3] == (0x80,) * 3
    assert source.notes == (f"{str(tmp_path / 'deep.png')!r} has 16 bits a channel: 8 of them are used",)


def test_a_picture_may_come_through_a_pipe(tmp_path: Path) -> None:
    """Each opened path is read once, to its end: what a shell calls <(cat a.png) or /dev/stdin."""
    data = saved(gradient(), tmp_path / "a.png").read_bytes()
    code = "import sys; from danqing.core.source_image import read_source as r; print(r(sys.argv[1]).id)"

    def told(fed: bytes) -> str:
        done = subprocess.run([sys.executable, "-c", code, "/dev/stdin"], input=fed, capture_output=True)
        return (done.stdout + done.stderr).decode()

    assert told(data).strip() == picture_id(gradient())
    assert "'/dev/stdin' is empty: send a picture through it" in told(b"")
    assert "'/dev/stdin' is damaged or cut short" in told(data[:60])
    assert "'/dev/stdin' is not a PNG" in told(b"<html>")
