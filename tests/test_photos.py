"""Photos: knowing one, and what is done with it without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from skimage import data

from danqing.apps import _registry as registry
from danqing.apps._photos import photo_notes
from danqing.apps.cutout import cutout
from danqing.apps.inpaint import inpaint
from danqing.apps.outpaint import outpaint
from danqing.apps.redraw import Redraw
from danqing.apps.stylize import Stylize
from danqing.core.brief import Brief
from danqing.core.card import Can
from danqing.core.catalogue import catalogue
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.photos.filling import fill_damage
from danqing.photos.likeness import features, is_photo, photo_likeness
from tests.toy import CARD, Toy

SAMPLES = Path(__file__).parent.parent / "samples" / "stickers"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "camera")
INPAINTER = CARD.model_copy(update={"can": CARD.can | {Can.INPAINT}})
CAT = Image.fromarray(data.chelsea())


def photo_of(name: str) -> Image.Image:
    return Image.fromarray(getattr(data, name)())


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_are_known_at_any_size(name: Any) -> None:
    photo = photo_of(name)
    for side in (512, 256):
        small = photo.copy()
        small.thumbnail((side, side))
        assert is_photo(small), side


def test_drawings_text_and_plain_pictures_are_no_photos() -> None:
    rows = [json.loads(line) for line in (SAMPLES / "metadata.jsonl").read_text("utf-8").splitlines()]
    drawings = [Image.open(SAMPLES / row["file_name"]) for row in rows]
    wrong = [row["file_name"] for row, image in zip(rows, drawings, strict=True) if is_photo(image)]
    assert wrong == []
    page = Image.new("RGB", (300, 400), "white")
    for row in range(20):
        ImageDraw.Draw(page).text((10, 10 + 18 * row), "what a page of text looks like", "black")
    assert not is_photo(page)
    assert not is_photo(Image.new("RGB", (64, 64), "#808080"))


@settings(max_examples=20)
@given(
    st.integers(8, 300), st.integers(8, 300), st.sampled_from(["RGB", "RGBA", "L", "LA", "1", "P", "CMYK"])
)
def test_any_picture_has_finite_features_of_one_number(width: Any, height: Any, mode: Any) -> None:
    image = Image.effect_noise((width, height), 60).convert("RGB").convert(mode)
    values = features(image)
    assert len(values) == len(features(CAT))
    assert np.isfinite(values).all()
    assert 0 <= photo_likeness(image) <= 1


def inputs_of(image: Any, **values: Any) -> Any:
    return Redraw.of_mapping({"image": image, "prompt": "a cat", **values})


def test_a_photo_is_told_where_the_model_paints_drawings_and_anyway_is_silent() -> None:
    (line,) = photo_notes(inputs_of(CAT), CARD)
    assert line.startswith("the picture is a photo, and model 'toy' paints drawings: it keeps places")
    assert "--model sd15" in line
    assert "\n" not in line
    assert photo_notes(inputs_of(CAT, anyway=True), CARD) == []
    assert photo_notes(inputs_of(CAT), CARD.model_copy(update={"styles": {}})) == []
    assert photo_notes(inputs_of(CAT), None) == []
    painted = Picture(CAT, Brief.of(prompt="a cat").resolve(CARD))
    assert photo_notes(inputs_of(painted), CARD) == []


def test_all_advice_is_there_in_chinese() -> None:
    advice = {name: registry.find_app(name).inputs.photo_advice for name in registry.names()}
    assert {"redraw", "vary", "blend", "edit", "animate", "learn", "upscale", "paint"} <= {
        name for name, line in advice.items() if line
    }
    chinese = catalogue("zh").messages
    assert [line for line in advice.values() if line and line not in chinese] == []
    line = photo_notes(inputs_of(CAT), CARD)[0]
    assert "是照片" in catalogue("zh").translate(line)
    assert "it keeps" not in catalogue("zh").translate(line)


def test_stylize_renders_photos_and_paints_drawings() -> None:
    assert Stylize.of_mapping({"image": CAT, "style": "ink-wash"}).renders(CARD)
    drawing = Image.open(next(SAMPLES.glob("cartoon/*")))
    assert not Stylize.of_mapping({"image": drawing, "style": "ink-wash"}).renders(CARD)


def scene(size: Any = (240, 180)) -> Any:
    """A red disc on a blue ground with noise, and where the disc is."""
    rng = np.random.default_rng(0)
    image = Image.new("RGB", size, (60, 90, 160))
    box = size[0] * 0.3, size[1] * 0.2, size[0] * 0.7, size[1] * 0.85
    ImageDraw.Draw(image).ellipse(box, fill=(200, 60, 40))
    noisy = np.asarray(image, np.float32) + rng.normal(0, 5, (size[1], size[0], 3))
    truth = Image.new("L", size)
    ImageDraw.Draw(truth).ellipse(box, fill=255)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), np.asarray(truth) > 127


def overlap(alpha: Any, truth: Any) -> Any:
    there = np.asarray(alpha) > 127
    return (there & truth).sum() / (there | truth).sum()


@pytest.mark.parametrize(
    "where", [{}, {"box": (60, 25, 180, 165)}, {"point": (120, 90)}], ids=["alone", "box", "point"]
)
def test_the_subject_is_cut_out_to_the_pixel(where: Any) -> None:
    image, truth = scene()
    (picture,) = cutout(image, **where)
    assert (picture.image.mode, picture.image.size) == ("RGBA", image.size)
    assert overlap(picture.image.getchannel("A"), truth) > 0.97
    solid = np.asarray(picture.image)[..., 3] == 255
    assert (np.asarray(picture.image)[solid][:, :3] == np.asarray(image)[solid]).all()
    assert picture.info.app == "cutout"


def test_no_background_is_left_in_the_colours_of_soft_edges() -> None:
    image, _ = scene()
    (picture,) = cutout(image)
    pixels = np.asarray(picture.image).astype(int)
    soft = (pixels[..., 3] > 60) & (pixels[..., 3] < 250)
    assert soft.any()
    assert np.median(pixels[soft][:, 2]) < 80  # the ground has 160 there, the disc 40


def test_a_sticker_is_cropped_and_has_a_white_rim() -> None:
    image, truth = scene()
    rows, columns = np.nonzero(truth)
    (picture,) = cutout(image, crop=True, outline=6)
    assert abs(picture.image.width - (np.ptp(columns) + 13)) <= 6
    middle = picture.image.height // 2
    line = np.asarray(picture.image)[middle]
    first = int(np.argmax(line[:, 3] > 250))
    assert (line[first + 1, :3] > 225).all()
    assert rows.size


def test_what_cannot_be_cut_out_is_one_line() -> None:
    image, _ = scene()
    with pytest.raises(BadBrief, match="nothing stands out in the picture: give a --box"):
        cutout(Image.new("RGB", (80, 60), "#4488cc"))
    with pytest.raises(BadBrief, match="box and point both say where"):
        cutout(image, box="1,2,30,40", point="3,4")
    with pytest.raises(BadBrief, match="box 1,2,300,40 does not lie in the picture, which is 240x180"):
        cutout(image, box="1,2,300,40")
    with pytest.raises(BadBrief, match="point 300,4 does not lie"):
        cutout(image, point="300,4")


@settings(max_examples=8, deadline=None)
@given(st.integers(8, 90), st.integers(8, 90), st.integers(0, 99))
def test_a_picture_of_any_size_is_cut_or_refused(width: Any, height: Any, seed: Any) -> None:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    try:
        (picture,) = cutout(image)
    except BadBrief:
        return
    assert picture.image.size == image.size


def scratched(image: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """The picture with four white lines and ten specks, and where they are."""
    damaged, truth = image.copy(), Image.new("L", image.size)
    width, height = image.size
    for k in range(4):
        line = (width * (0.2 + 0.2 * k), 0.1 * height, width * (0.1 + 0.22 * k), 0.9 * height)
        for picture, colour in ((damaged, (246, 246, 242)), (truth, 255)):
            ImageDraw.Draw(picture).line(line, fill=colour, width=2)
    return damaged, np.asarray(truth) > 0


def test_scratches_on_a_photo_are_removed_and_all_else_keeps_its_bytes() -> None:
    damaged, truth = scratched(CAT)
    (mended,) = inpaint(damaged, damage="scratches", painter=Toy(INPAINTER))
    before, after, wanted = (np.asarray(image, float) for image in (damaged, mended.image, CAT))
    changed = (before != after).any(axis=-1)
    assert changed[truth].mean() > 0.8
    assert changed.mean() < 0.06
    error = ((after - wanted)[truth] ** 2).mean()
    assert error < ((before - wanted)[truth] ** 2).mean() / 6  # measured: 0.13 of it
    (shown,) = inpaint(damaged, damage="scratches", show_mask=True, painter=Toy(INPAINTER))
    red = (np.asarray(shown.image) == (255, 0, 0)).all(axis=-1)
    assert (changed & ~red).sum() == 0


def test_filling_beats_opencv_in_a_hole_on_a_smooth_ramp() -> None:
    y, x = np.mgrid[:60, :80].astype(float)
    ramp = np.stack([100 + 60 * np.sin(x / 14), 100 + 50 * np.cos(y / 12), 90 + x], axis=-1)
    hole = Image.new("L", (80, 60))
    ImageDraw.Draw(hole).line((10, 10, 70, 50), fill=255, width=5)
    inside = np.asarray(hole) > 0
    damaged = ramp.round().astype(np.uint8)
    damaged[inside] = 255
    after = np.asarray(fill_damage(Image.fromarray(damaged), hole), float)
    telea = cv2.inpaint(damaged, inside.astype(np.uint8) * 255, 3, cv2.INPAINT_TELEA).astype(float)
    assert ((after - ramp)[inside] ** 2).mean() < 0.5 * ((telea - ramp)[inside] ** 2).mean()
    assert (after[~inside] == damaged[~inside]).all()


def test_what_is_too_much_for_a_photo_is_refused_with_the_way_out() -> None:
    mask = Image.new("L", CAT.size)
    ImageDraw.Draw(mask).rectangle((100, 100, 260, 220), fill=255)
    given = {"painter": Toy(INPAINTER)}
    with pytest.raises(BadBrief, match=r"part is too large .* --model sd15-inpaint paints it, --anyway"):
        inpaint(CAT, mask=mask, **given)
    with pytest.raises(BadBrief, match=r"is a photo, and 226 pixels are too many .*30 at most.*--anyway"):
        outpaint(CAT, right=0.5, **given)
    small = Image.new("L", CAT.size)
    ImageDraw.Draw(small).ellipse((100, 100, 116, 112), fill=255)
    with pytest.raises(BadBrief, match="paints what the words say"):
        inpaint(CAT, "a hat", mask=small, **given)
    (picture,) = inpaint(CAT, mask=small, **given)
    kept = np.asarray(small) == 0
    assert (np.asarray(picture.image)[kept] == np.asarray(CAT)[kept]).all()
    (wider,) = outpaint(CAT, right=0.05, **given)
    assert wider.image.size == (CAT.width + 23, CAT.height)
    assert (np.asarray(wider.image)[:, : CAT.width] == np.asarray(CAT)).all()
    (anyway,) = outpaint(CAT, right=0.5, anyway=True, seed=1, **given)
    assert anyway.image.width == CAT.width + round(CAT.width / 2)
