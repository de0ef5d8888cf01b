"""Colour profiles: what becomes of a picture, exactly, and what is said of it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy import ndarray
from PIL import Image, ImageCms

from danqing.core.colour import to_srgb
from danqing.core.images import from_pil
from danqing.core.source_image import read_source, to_plain_rgb
from danqing.data.dataset import _over_white
from tests.icc import ADOBE, P3, SRGB, cmyk_profile, grey_profile, linear, rgb_profile, srgb_curve

PROFILES = {
    "p3": ("RGB", rgb_profile(P3)),
    "adobe": ("RGB", rgb_profile(ADOBE, 2.2, "Adobe RGB (1998)")),
    "grey": ("L", grey_profile(1.8)),
    "cmyk": ("CMYK", cmyk_profile()),
}


def colours(mode: str, size: tuple[int, int] = (24, 20)) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(pixels[..., k]) for k in range(bands)])


def with_profile(image: Image.Image, profile: bytes, path: Path) -> Path:
    image.save(path, icc_profile=profile)
    return path


def by_pillow(image: Image.Image, profile: bytes) -> Image.Image:
    done = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert done is not None
    return done


FILES = [(name, suffix) for name in ("p3", "adobe", "grey") for suffix in ("png", "jpg", "tif")]
FILES += [("p3", "webp"), ("adobe", "webp"), ("cmyk", "jpg"), ("cmyk", "tif")]


@pytest.mark.parametrize(("name", "suffix"), FILES)
def test_a_profile_is_what_pillow_makes_of_it_and_said(tmp_path: Path, name: str, suffix: str) -> None:
    mode, profile = PROFILES[name]
    path = with_profile(colours(mode), profile, tmp_path / f"a.{suffix}")
    with Image.open(path) as image:
        expected = by_pillow(image.convert(mode), profile)
    source = read_source(path)
    assert source.image.mode == "RGB"
    assert source.image.tobytes() == expected.tobytes()
    assert "icc_profile" not in source.image.info, "or a program would apply it once more"
    (note,) = [note for note in source.notes if "colours of" in note]
    assert note.endswith("to sRGB")
    assert "\n" not in note
    if mode == "RGB":
        assert ("'Display P3'" if name == "p3" else "'Adobe RGB (1998)'") in note


@pytest.mark.parametrize(("name", "colorants"), [("p3", P3), ("adobe", ADOBE)])
def test_it_is_the_closed_form(name: str, colorants: ndarray) -> None:
    """Measured: 1 level of 255 for each, where the colour is inside of sRGB."""
    image = colours("RGB", (64, 64))
    values = np.asarray(image).astype(float)
    light = linear(values) if name == "p3" else (values / 255) ** (round(256 * 2.2) / 256)
    ideal = light @ (np.linalg.inv(SRGB) @ colorants).T
    inside = ((ideal > 0.02) & (ideal < 0.98)).all(axis=-1)
    image.info["icc_profile"] = PROFILES[name][1]
    got = np.asarray(to_srgb(image)[0]).astype(float)
    assert inside.sum() > 500
    assert np.abs(got - srgb_curve(ideal))[inside].max() <= 1.6
    assert np.abs(got - values)[inside].max() > 20, "paler without it"


def test_grey_is_the_closed_form() -> None:
    image = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    image.info["icc_profile"] = grey_profile(1.8)
    got = np.asarray(to_srgb(image)[0])[0, :, 1].astype(float)
    ideal = srgb_curve((np.arange(256) / 255) ** (round(256 * 1.8) / 256))
    assert np.abs(got - ideal).max() <= 1.6


def test_alpha_stays(tmp_path: Path) -> None:
    image = colours("RGBA")
    source = read_source(with_profile(image, rgb_profile(P3), tmp_path / "a.png"))
    assert source.image.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert source.image.convert("RGB").tobytes() == by_pillow(image.convert("RGB"), rgb_profile(P3)).tobytes()
    grey = read_source(with_profile(colours("LA"), grey_profile(1.8), tmp_path / "b.png"))
    assert grey.image.getchannel("A").tobytes() == colours("LA").getchannel("A").tobytes()


@pytest.mark.parametrize(
    "profile",
    [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), rgb_profile(SRGB, name="mine")],
)
def test_what_is_srgb_keeps_its_very_bytes(tmp_path: Path, profile: bytes) -> None:
    source = read_source(with_profile(colours("RGB"), profile, tmp_path / "a.png"))
    assert source.image.tobytes() == colours("RGB").tobytes()
    assert "icc_profile" not in source.image.info
    assert source.notes[0].endswith("which is sRGB: its colours stay as they are")


def test_a_grey_picture_with_a_profile_of_colours(tmp_path: Path) -> None:
    source = read_source(with_profile(colours("L"), rgb_profile(ADOBE, 2.2), tmp_path / "a.png"))
    assert source.image.tobytes() == by_pillow(colours("L").convert("RGB"), rgb_profile(ADOBE, 2.2)).tobytes()


@pytest.mark.parametrize(
    ("mode", "profile", "said"),
    [
        ("RGB", b"nonsense", "damaged colour profile, which is ignored"),
        ("RGB", rgb_profile(P3)[:200], "damaged"),
        ("RGB", rgb_profile(P3)[:128] + bytes(400), "damaged"),
        ("RGB", cmyk_profile(), "for CMYK, not for RGB: it is ignored"),
        ("CMYK", rgb_profile(P3), "for RGB, not for CMYK"),
    ],
)
def test_a_broken_profile_is_ignored_and_said(tmp_path: Path, mode: str, profile: bytes, said: str) -> None:
    path = with_profile(colours(mode), profile, tmp_path / "a.tif")
    source = read_source(path)
    assert source.image.tobytes() == colours(mode).convert("RGB").tobytes()
    assert said in source.notes[-1]


def test_the_name_of_a_profile_cannot_reach_a_terminal(tmp_path: Path) -> None:
    profile = rgb_profile(P3, name="\x1b[31mred\r\n" + "x" * 300)
    (note,) = read_source(with_profile(colours("RGB"), profile, tmp_path / "a.png")).notes
    assert note.isprintable()
    assert len(note) < 300


def test_colours_that_only_exif_or_gamma_tell_are_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 2
    colours("RGB").save(tmp_path / "camera.jpg", exif=exif)
    assert "says Adobe RGB without" in read_source(tmp_path / "camera.jpg").notes[0]
    colours("RGB").save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    chunk = b"gAMA" + struct.pack(">I", 100_000)
    whole = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(data[:33] + whole + data[33:])
    assert "says gamma 1 without" in read_source(tmp_path / "a.png").notes[0]


def test_every_way_in_converts(tmp_path: Path) -> None:
    """Paths, PIL's pictures, tensors, rows of a data set; and what was given stays as it was."""
    path = with_profile(colours("RGB"), rgb_profile(P3), tmp_path / "a.png")
    expected = read_source(path).image
    with Image.open(path) as image:
        image.load()
        assert read_source(image).image.tobytes() == expected.tobytes()
        assert (from_pil(image) == from_pil(expected)).all()
        assert image.info["icc_profile"] == rgb_profile(P3)
        assert image.tobytes() == colours("RGB").tobytes()
    row = _over_white(path)
    assert row is not None
    assert row[:3].transpose(1, 2, 0).tobytes() == expected.tobytes()
    assert to_plain_rgb(colours("RGB"))[1] == []
