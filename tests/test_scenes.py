"""Scenes: colours turned, several of a thing, two in their places, and what is said of them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from danqing.core.errors import BadData
from danqing.core.progress import Progress
from danqing.data import captions
from danqing.data.captions import counted_caption
from danqing.data.dataset import read_imagefolder
from danqing.data.scenes import (
    COLOURS,
    PLACES,
    SceneOptions,
    _colourless,
    compose,
    repeat_on_canvas,
    shift_hue,
    side_by_side,
)
from danqing.interfaces.cli.main import run
from tests.test_recipes import folder_of
from tests.tiny import stickers


def disc(rgb: tuple[float, float, float], side: int = 32) -> np.ndarray:
    """A disc of one colour with a black eye, on transparency; [side side 4] in [0, 1]."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    picture = np.zeros((side, side, 4), np.float32)
    picture[..., :3] = rgb
    picture[np.hypot(x, y) < 0.1, :3] = 0.05
    picture[..., 3] = np.hypot(x, y) < 0.4
    return picture


def image_of(picture: np.ndarray) -> Image.Image:
    return Image.fromarray((picture * 255).round().astype(np.uint8), "RGBA")


def degrees(picture: np.ndarray) -> float:
    """The hue of a pixel between the eye and the rim."""
    side = len(picture)
    pixel = Image.fromarray((picture[side // 2, side // 5, :3] * 255).round().astype(np.uint8)[None, None])
    return pixel.convert("HSV").getpixel((0, 0))[0] * 360 / 255


@pytest.mark.parametrize("colour", list(COLOURS))
@pytest.mark.parametrize("start", [(0.9, 0.2, 0.1), (0.2, 0.3, 0.9), (0.8, 0.8, 0.8)])
def test_a_thing_takes_the_colour(colour: str, start: tuple[float, float, float]) -> None:
    """Red, blue and grey things; the eye stays dark and the outline as it is. A bin is five degrees wide."""
    _, wanted, share = COLOURS[colour]
    picture = disc(start)
    made = shift_hue(picture, wanted, share)
    away = (degrees(made) - wanted + 180) % 360 - 180
    assert abs(away) < 6
    assert np.array_equal(made[..., 3], picture[..., 3])
    assert made[16, 16, :3].max() < 0.1
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() <= 1


def test_other_colours_stay() -> None:
    picture = disc((0.9, 0.2, 0.1))
    picture[:6, :, :3] = (0.1, 0.7, 0.1)  # a leaf
    assert np.allclose(shift_hue(picture, 215)[:6, :, :3], picture[:6, :, :3], atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_as_many_as_were_asked_for(count: int) -> None:
    many = repeat_on_canvas(image_of(disc((0.9, 0.2, 0.1), 64)), count)
    _, found = ndimage.label(np.asarray(many)[..., 3] > 128)
    assert found == count


@pytest.mark.parametrize("place", list(PLACES))
def test_two_things_in_their_places(place: str) -> None:
    red, blue = (image_of(disc(rgb, 64)) for rgb in ((0.9, 0.1, 0.1), (0.1, 0.1, 0.9)))
    pixels = np.asarray(side_by_side(red, blue, place)).astype(float) * (
        np.asarray(side_by_side(red, blue, place))[..., 3:] > 9
    )
    centres = [ndimage.center_of_mass(pixels[..., channel] > 200) for channel in (0, 2)]
    down, right = (centres[0][axis] - centres[1][axis] for axis in (0, 1))
    wanted = PLACES[place][1]
    assert (np.sign(round(right / 10)), np.sign(round(down / 10))) == wanted


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cat", ("three cats", "三只它")),
        ("strawberry", ("three strawberries", "三只它")),
        ("bus", ("three buses", "三只它")),
        ("mouse", ("three mice", "三只它")),
        ("maple leaf", ("three maple leaves", "三只它")),
        ("snowman", ("three snowmen", "三只它")),
        ("glasses", None),
        ("bread", None),
    ],
)
def test_numbers_and_plurals(name: str, said: tuple[str, str] | None) -> None:
    assert counted_caption(name, "它", 3, animal=True) == said
    told = counted_caption(name, "它", 3, animal=False)
    assert told is None or told[1] == "三个它"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(stickers(32), tmp_path_factory.mktemp("stickers"))


def test_the_old_pictures_and_the_new(source: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    count = compose(source, tmp_path, SceneOptions(), reports.append)
    data, before = read_imagefolder(tmp_path), read_imagefolder(source)
    assert len(data) == count
    assert data.rows[: len(before)] == before.rows
    assert (data.pictures[: len(before)] == before.pictures).all()
    assert len(set(data.column("file_name"))) == count
    scenes = data.rows[len(before) :]
    coloured = [row for row in scenes if "colour" in row]
    assert len(coloured) == 3 * (reports[-1].of or 0)
    assert all(row["concept"].split()[-1] in row["phrase"] for row in coloured)
    assert all("concept" not in row for row in scenes if "colour" not in row)
    held = {(row["concept"], row["style"]) for row in before.rows if row["held_out"]}
    assert all(row["held_out"] for row in coloured if (row["concept"], row["style"]) in held)


def test_two_things_of_a_scene_are_in_one_style(source: Path, tmp_path: Path) -> None:
    """In the test set each style is a bar of its own width and each thing a colour."""
    compose(source, tmp_path, SceneOptions(colours=0, counts=0, places=1))
    data = read_imagefolder(tmp_path)
    widths = {
        row["file_name"]: _width(picture) for row, picture in zip(data.rows, data.pictures, strict=True)
    }
    of_style = {row["style"]: widths[row["file_name"]] for row in data.rows if "phrase" not in row}
    scenes = [row for row in data.rows if "phrase" in row and " of " in row["phrase"]]
    assert scenes
    for row in scenes:  # side by side they are both reduced to 0.48
        assert widths[row["file_name"]] == pytest.approx(2 * 0.48 * of_style[row["style"]], abs=3)


def _width(picture: torch.Tensor) -> int:
    """How many columns of a picture [4 h w] hold anything opaque."""
    return int((picture[3] > 128).any(dim=0).sum())


def test_several_drawings_of_one_thing_are_several_scenes(tmp_path: Path) -> None:
    drawn = stickers(32)
    rows = tuple({**row, "file_name": f"{k}.png", "concept": "cat"} for k, row in enumerate(drawn.rows))
    folder_of(replace(drawn, rows=rows), tmp_path / "from")
    count = compose(tmp_path / "from", tmp_path / "to", SceneOptions())
    assert len(list((tmp_path / "to").rglob("*.png"))) == count


@pytest.mark.parametrize(
    ("names", "bare"),
    [
        (("cat", "猫"), ("cat", "猫")),
        (("red apple", "红苹果"), ("apple", "苹果")),
        (("orange book", "橙色的书本"), ("book", "书本")),
        (("orange", "橙子"), ("orange", "橙子")),
        (("green apple", "青苹果"), None),
        (("red envelope", "红包"), None),
        (("black cat", "黑猫"), None),
    ],
)
def test_a_name_without_its_colour(names: tuple[str, str], bare: tuple[str, str] | None) -> None:
    assert _colourless(*names) == bare


def test_composing_repeats_exactly(source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        compose(source, tmp_path / name, SceneOptions(colours=1, counts=1, places=1))
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_a_scene_is_called_by_its_phrase() -> None:
    row = {"phrase": "three cats", "phrase_zh": "三只猫", "style": "flat", "text": "-", "tags": ["pet"]}
    shares = captions.Shares(tag=1.0, synonym=1.0)
    english = {captions.caption_of(row, "en", random.Random(k), shares) for k in range(50)}
    assert all("three cats" in said and "a three" not in said and "  " not in said for said in english)
    chinese = [captions.caption_of(row, "zh", random.Random(k), shares) for k in range(50)]
    assert all("三只猫" in said and "一个" not in said and "一只" not in said for said in chinese)


def test_articles_and_what_is_cute() -> None:
    said = {
        captions.english_caption(name, None, random.Random(k))
        for name in ("owl", "cherries")
        for k in range(60)
    }
    assert {"an owl", "a cute owl", "cute cherries", "a picture of cherries"} <= said
    assert not said & {"an cute owl", "a cherries", "a cute cherries"}


def test_what_cannot_be_composed_is_told(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadData, match="is missing: build"):
        compose(tmp_path, tmp_path / "to", SceneOptions())
    drawn = stickers(32)
    rows = tuple({**row, "style": "oil"} for row in drawn.rows)
    with pytest.raises(BadData, match="no picture in a style that can be recoloured: 3d, flat, cartoon"):
        compose(folder_of(replace(drawn, rows=rows), tmp_path / "oil"), tmp_path / "to", SceneOptions())
    damaged = folder_of(drawn, tmp_path / "damaged")
    (damaged / str(drawn.rows[1]["file_name"])).write_bytes(b"no picture")
    with pytest.raises(BadData, match="cannot be read"):
        compose(damaged, tmp_path / "to", SceneOptions())
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "1.png", "text": "a cat"}))
    with pytest.raises(BadData, match=r"'1\.png' tells no concept and style"):
        compose(tmp_path, tmp_path / "to", SceneOptions())
    assert run(["data", "scenes", str(source), str(source)]) == 2
    assert "is the data set itself" in capsys.readouterr().err
    assert run(["data", "scenes", str(source), str(tmp_path / "to"), "--colours", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "to")
