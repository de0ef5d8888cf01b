"""A saved picture opens as what it was; anything else is refused in one line."""

from __future__ import annotations

import random
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sd_parsers import ParserManager

from danqing.core.brief import Brief
from danqing.core.errors import BadPicture, DanqingError
from danqing.core.files import atomic_write
from danqing.core.metadata import Info
from danqing.core.picture import Picture
from tests.toy import CARD

BRIEF = Brief.of("一只红色的小熊猫，3d\nNegative prompt: x", negative_prompt="文字", seed=7).resolve(CARD)
INFO = Info(sampler="DPM++ 2M", seconds=0.5, versions={"danqing": "0.1.0"})


def picture(mode: str = "RGBA") -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, len(mode)), np.uint8)
    return Picture(Image.fromarray(pixels, mode), BRIEF, INFO)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".PNG"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pixels_and_brief_survive(tmp_path: Path, suffix: str, mode: str) -> None:
    path = picture(mode).save(tmp_path / "new folder" / f"图{suffix}")
    back = Picture.open(path)
    assert (back.brief, back.info) == (BRIEF, INFO)
    assert back.image.convert(mode).tobytes() == picture(mode).image.tobytes()
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no draft is left"


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_other_programs_read_it(tmp_path: Path, suffix: str) -> None:
    info = ParserManager().parse(picture("RGB").save(tmp_path / f"a{suffix}"))
    assert info is not None
    assert info.samplers[0].prompts[0].value == "一只红色的小熊猫，3d\nNegative prompt : x"
    assert info.samplers[0].negative_prompts[0].value == "文字"


def test_a_jpeg_keeps_its_brief(tmp_path: Path) -> None:
    back = Picture.open(picture("RGB").save(tmp_path / "a.jpeg"))
    assert (back.brief, back.info) == (BRIEF, INFO)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_the_longest_prompts_fit(tmp_path: Path, suffix: str) -> None:
    brief = Brief.of("猫" * 4000, negative_prompt="狗" * 4000, seed=7).resolve(CARD)
    path = Picture(Image.new("RGB", (8, 8)), brief).save(tmp_path / f"a{suffix}")
    assert Picture.open(path).brief == brief


@pytest.mark.parametrize(
    ("name", "says"),
    [("a.jpg", "JPEG has no transparency"), ("a.gif", "end the name with .png"), ("a", "end the name")],
)
def test_a_format_that_cannot_hold_it_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(BadPicture, match=says):
        picture().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DanqingError, match="cannot write"):
        picture().save(tmp_path / "file" / "a.png")


def test_a_failure_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as draft:  # noqa: PT012
        draft.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x00\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_what_is_no_picture_of_ours_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "other.gif")
    whole = picture().save(tmp_path / "whole.png").read_bytes()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "short.png").write_bytes(whole[:-300])
    (tmp_path / "large.png").write_bytes(png_claiming(10_000, 10_001))
    (tmp_path / "bomb.png").write_bytes(png_claiming(60_000, 60_000))
    expected = {
        "missing.png": "no picture at",
        ".": "is a folder",
        "plain.png": "holds no danqing brief",
        "other.gif": "holds no danqing brief",
        "empty.png": "is empty",
        "text.png": "is not a PNG",
        "short.png": "damaged or cut short",
        "large.png": "at most 100 megapixels",
        "bomb.png": "at most 100 megapixels",
    }
    for name, says in expected.items():
        with pytest.raises(BadPicture, match=says) as caught:
            Picture.open(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_damage_anywhere_gives_a_picture_or_one_line(tmp_path: Path, suffix: str) -> None:
    whole = picture("RGB").save(tmp_path / f"a{suffix}").read_bytes()
    chance = random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(min(len(whole), 1500))] = chance.randrange(256)
        path = tmp_path / f"b{suffix}"
        path.write_bytes(damaged[: chance.choice([None, chance.randrange(len(whole))])])
        with suppress(BadPicture):  # anything else would be a traceback
            Picture.open(path)
