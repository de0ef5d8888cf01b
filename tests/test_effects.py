"""Style effects by rendering: every effect on every kind of picture, and what has a closed form."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont
from scipy import ndimage
from skimage import data as photos

from danqing.apps._session import Session
from danqing.apps._style_packs import packs
from danqing.apps.stylize import stylize
from danqing.core import fonts
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.effects import EFFECTS, inscriptions, rendering
from danqing.effects import _filters as f
from danqing.effects._scene import Scene, whole_of
from danqing.effects._sheet import bridge, sheet_of
from danqing.effects.rendering import find_effect, render
from danqing.interfaces.cli import main as cli
from tests.toy import Toy

CAT = Image.fromarray(photos.chelsea()).resize((120, 80))
FACE = Image.fromarray(photos.astronaut()[:256, 100:356])
every_effect = pytest.mark.parametrize("name", EFFECTS)


def scene_of(image: Image.Image, seed: int = 0) -> Scene:
    picture = np.asarray(image.convert("RGB"), np.float32) / 255
    whole = whole_of(picture, np.ones(picture.shape[:2], np.float32), 0.5, seed)
    return Scene(picture, whole, 0, 0, picture.shape[:2], np.zeros((0, 3), np.float32))


@every_effect
def test_an_effect_keeps_size_and_alpha_and_is_the_same_for_the_same_seed(name: str) -> None:
    shape = Image.new("L", CAT.size, 0)
    shape.paste(255, (30, 20, 100, 70))
    shape.paste(100, (30, 20, 60, 40))
    cutout = CAT.convert("RGBA")
    cutout.putalpha(shape)
    made, again = render(cutout, name, seed=5), render(cutout, name, seed=5)
    assert made.tobytes() == again.tobytes()
    assert made.getchannel("A").tobytes() == shape.tobytes()
    opaque = render(CAT, name, seed=5)
    assert (opaque.mode, opaque.size) == ("RGB", CAT.size)
    assert np.abs(np.asarray(opaque, int) - np.asarray(CAT, int)).mean() > 4


@every_effect
@pytest.mark.parametrize("size", [(8, 8), (9, 60)])
def test_an_effect_takes_plain_and_tiny_pictures(name: str, size: tuple[int, int]) -> None:
    assert render(Image.new("RGB", size, (120, 130, 140)), name).size == size
    assert render(Image.new("RGBA", size, (0, 0, 0, 0)), name).getchannel("A").getextrema() == (0, 0)


@every_effect
def test_tiles_make_the_picture_that_the_whole_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: at most 0.5 of 255 on average, at the seams no more than elsewhere."""
    image = Image.fromarray(photos.astronaut()).resize((300, 300))
    monkeypatch.setattr(rendering, "SMALL", 0)
    whole = np.asarray(render(image, name, seed=2), float)
    monkeypatch.setattr(rendering, "TILE", 150)
    apart = np.abs(np.asarray(render(image, name, seed=2), float) - whole).mean(axis=-1)
    assert apart.mean() < 1.0
    assert apart[:, 149:151].mean() < 2.5


@given(st.integers(8, 5000), st.integers(8, 5000), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_tiles_cover_a_picture_once_and_are_bounded(height: Any, width: Any, strength: Any) -> None:
    seen = np.zeros((height, width), np.uint8)
    for inner, outer in rendering._tiles(height, width, strength):
        seen[inner] += 1
        for part, around, length in zip(inner, outer, (height, width), strict=True):
            assert 0 <= around.start <= part.start < part.stop <= around.stop <= length
        area = np.prod([side.stop - side.start for side in outer])
        margin = rendering.MARGIN / 1000 * (height * width) ** 0.5 * 2
        assert area <= max(2 * rendering.TILE**2, (rendering.TILE + 2 * margin + 2) ** 2)
    assert (seen == 1).all()


@pytest.mark.parametrize("picture", ["astronaut", "chelsea", "rocket"])
@pytest.mark.parametrize("strength", [0.1, 0.8])
def test_a_paper_cut_is_one_sheet(picture: str, strength: float) -> None:
    image = Image.fromarray(getattr(photos, picture)()).convert("RGB").resize((240, 200))
    pixels = np.asarray(image, np.float32) / 255
    sheet = sheet_of(whole_of(pixels, np.ones(pixels.shape[:2], np.float32), strength, 1))
    assert ndimage.label(sheet, np.ones((3, 3)))[1] == 1
    assert 0.15 < sheet.mean() < 0.9


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.5))
@settings(max_examples=30, deadline=None)
def test_bridges_join_all_pieces_and_take_nothing(seed: Any, density: Any) -> None:
    pieces = np.random.default_rng(seed).random((24, 31)) < density
    pieces[0, 0] = True
    joined = bridge(pieces, 1)
    assert (joined | pieces == joined).all()
    assert ndimage.label(joined, np.ones((3, 3)))[1] == 1


def test_a_bridge_is_the_shortest() -> None:
    pieces = np.zeros((20, 30), bool)
    pieces[5:15, 2:6] = pieces[9, 12:20] = True
    added = bridge(pieces, 1) & ~pieces
    assert added.sum() == 6
    assert added[9, 6:12].all()


def test_noise_is_standard_and_the_same_in_every_tile() -> None:
    scene = scene_of(Image.new("RGB", (200, 160)))
    noise = scene.noise(20, 1)
    assert abs(scene.noise(3, 2).mean()) < 0.1
    assert 0.8 < scene.noise(3, 2).std() < 1.2
    tile = Scene(scene.picture[30:90, 50:120], scene.whole, 30, 50, (160, 200), scene.colours)
    np.testing.assert_allclose(tile.noise(20, 1), noise[30:90, 50:120], atol=1e-5)
    assert np.abs(noise - scene.noise(20, 3)).mean() > 0.3


def test_a_map_of_the_whole_is_read_at_its_place() -> None:
    scene = scene_of(Image.new("RGB", (200, 160)))
    ramp = np.tile(np.linspace(0, 1, 50, dtype=np.float32), (40, 1))  # a quarter of the size
    read = scene.at(ramp)
    places = (np.arange(200) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(read[80, 12:-12], places[12:-12] / 49, atol=1e-4)


def test_kuwahara_takes_texture_and_keeps_edges() -> None:
    rng = np.random.default_rng(1)
    picture = np.full((80, 80, 3), 0.3, np.float32)
    picture[:, 40:] = 0.7
    noisy = np.clip(picture + rng.normal(0, 0.06, picture.shape), 0, 1).astype(np.float32)
    smooth = f.kuwahara(noisy, 5)
    assert np.abs(smooth - picture)[10:-10, 10:-10].mean() < 0.2 * np.abs(noisy - picture).mean()
    assert smooth[10:-10, 43:].min() - smooth[10:-10, :37].max() > 0.3


def test_lines_are_where_there_is_contrast() -> None:
    flat = np.full((60, 60), 0.6, np.float32)
    assert f.lines(flat, f.flow_of(flat, 2), 1.0).max() == 0
    drawn = flat.copy()
    drawn[:, 29:31] = 0.1
    lines = f.lines(drawn, f.flow_of(drawn, 2), 1.0)
    assert lines[10:-10, 29:31].min() > 0.9
    assert lines[:, :20].max() == 0


def test_the_flow_runs_along_contours() -> None:
    y, x = np.mgrid[-40:40, -40:40].astype(np.float32)
    rings = np.cos(np.hypot(x, y) / 3).astype(np.float32)
    flow = f.flow_of(rings, 2)
    ring = (np.hypot(x, y) > 12) & (np.hypot(x, y) < 36)
    radial = np.abs(flow.x * x + flow.y * y) / np.maximum(np.hypot(x, y), 1)
    assert radial[ring].mean() < 0.1
    noise = np.random.default_rng(2).standard_normal(rings.shape).astype(np.float32)
    kept = [np.std(f.along(values, flow, 9)[ring]) / np.std(values[ring]) for values in (rings, noise)]
    assert kept[0] > 0.9  # what follows the contours stays
    assert kept[1] < 0.5


def test_inks_are_the_nearest_of_the_palette() -> None:
    palette = np.array([[1, 1, 1], [0.8, 0.1, 0.1], [0, 0, 0.6]], np.float32)
    picture = np.repeat(palette[:, None] * 0.9 + 0.05, 8, axis=1).repeat(1, axis=0)
    printed = f.inks(f.to_lab(picture), palette, soft=0.5, smooth=0, tint=1)
    np.testing.assert_allclose(printed, np.repeat(palette[:, None], 8, axis=1), atol=0.02)


def test_a_palette_takes_the_place_of_the_effects_own() -> None:
    blue = np.asarray(render(CAT, "paper-cut", palette=["#0000ff"]), int)
    assert (blue[..., 2] - blue[..., 0]).max() > 180
    assert (blue[..., 0] - blue[..., 2]).max() < 60
    with pytest.raises(BadBrief, match="oil takes no colours, not 1"):
        render(CAT, "oil", palette=["#0000ff"])
    inks = np.asarray(render(CAT, "pixel-art", palette=["#000000", "#ffffff", "#ff0000"]))
    assert {tuple(pixel) for pixel in inks.reshape(-1, 3).tolist()} <= {
        (0, 0, 0),
        (255, 255, 255),
        (255, 0, 0),
    }


def test_strength_leaves_larger_forms() -> None:
    fine, coarse = (np.asarray(render(FACE, "pixel-art", strength=strength), int) for strength in (0, 1))
    changes = [(np.diff(image, axis=1) != 0).any(axis=-1).any(axis=0).sum() for image in (fine, coarse)]
    assert changes == [255, 63]  # cells of 1 and of 4 pixels


def test_every_effect_is_a_style_by_name() -> None:
    shipped = packs(Path("no-such-folder"))
    assert set(EFFECTS) <= set(shipped)
    for name in EFFECTS:
        assert find_effect(name).draw.__doc__
    with pytest.raises(BadBrief, match="did you mean 'ink-wash'"):
        find_effect("inkwash")


@pytest.fixture
def no_painter(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model may be opened."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a rendering opens no model")

    monkeypatch.setattr(Session, "painter", refuse)


@pytest.mark.usefixtures("no_painter")
def test_a_photo_is_rendered_at_its_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    FACE.save("face.jpg", quality=95)
    assert cli.run(["stylize", "face.jpg", "--style", "水墨", "--seed", "4"]) == 0
    done = capfd.readouterr()
    assert "face.jpg is rendered in ink-wash, not painted, since it looks like a photo" in done.err
    made = Picture.open(done.out.strip())
    assert made.image.size == FACE.size
    assert made.info.app == "stylize"
    assert made.info.inputs["how"] == "render"
    expected = render(Image.open("face.jpg"), "ink-wash", seed=4)
    assert made.image.tobytes() == expected.tobytes()
    assert cli.run(["stylize", "face.jpg", "--style", "3d", "--how", "render"]) == 2
    assert "unknown style to render '3d'" in capfd.readouterr().err


def test_a_drawing_is_painted_and_how_decides() -> None:
    painter = Toy()
    drawing = Image.new("RGB", (64, 64), "white")
    drawing.paste((200, 30, 30), (16, 16, 48, 48))
    with pytest.raises(BadBrief, match="cannot redraw"):  # so it went to the painter
        stylize(drawing, "a cat", style="paper-cut", painter=painter, seed=1)
    [rendered] = stylize(drawing, style="paper-cut", how="render", painter=painter, seed=1)
    assert rendered.image.size == drawing.size
    with pytest.raises(BadBrief, match="cannot redraw"):
        stylize(FACE, "a cat", style="paper-cut", how="paint", painter=painter, seed=1)


def test_without_opencv_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("danqing.effects.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(BadBrief, match=r"pip install 'danqing\[photos\]'"):
        stylize(FACE, style="oil", how="render", painter=Toy())


def test_a_seal_and_a_title_stand_in_an_empty_corner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "font.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    monkeypatch.setattr(fonts, "_folders", lambda: [tmp_path])
    image = Image.new("RGB", (300, 200), "white")
    image.paste((20, 20, 20), (0, 0, 200, 200))  # only the right is empty
    made = np.asarray(inscriptions.inscribe(image, title="AB", seal="CD"), int)
    changed = np.argwhere((made != np.asarray(image, int)).any(axis=-1))
    assert len(changed) > 200
    assert changed[:, 1].min() > 200
    red = (made[..., 0] - made[..., 1]) > 100
    assert red.sum() > 50
    with pytest.raises(BadBrief, match="no font at hand has the characters of"):
        inscriptions.inscribe(image, seal="\ue123")
