"""Pictures that follow maps: what people type, which ControlNet follows, what a picture keeps of it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from danqing import Picture, Session, paint
from danqing.apps import NamedSession, find_app
from danqing.core.control import CONTROL_KINDS, ControlRef
from danqing.core.errors import BadBrief, BadWeights
from danqing.effects.control_maps import control_map
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli.show import _command
from tests.controlnets import controlnet_for, original
from tests.single_files import SD1, SDXL, tiny, write_model

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "seed": 3, "model": "tiny.safetensors"}


def photo(width: int = 96, height: int = 96) -> Image.Image:
    picture = Image.new("RGB", (width, height), "#e8e0d0")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((width // 5, height // 5, width * 4 // 5, height * 4 // 5), fill="#803020")
    draw.rectangle((width // 3, height // 2, width // 2, height * 3 // 4), fill="#102040")
    return picture


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Stable Diffusion 1, and ControlNets of 1 and XL in `controls`."""
    folder = tmp_path_factory.mktemp("control")
    parts = tiny(SD1)
    write_model(folder / "tiny.safetensors", parts)
    (folder / "controls").mkdir()
    save_file(original(controlnet_for(parts.unet)), folder / "controls" / "control_v11p_canny.safetensors")
    other = tiny(SDXL)
    save_file(original(controlnet_for(other.unet)), folder / "controls" / "a_depth_of_another.safetensors")
    controlnet_for(parts.unet, 1).save_pretrained(folder / "controls" / "sd-controlnet-depth")
    controlnet_for(parts.unet, 2).save_pretrained(folder / "elsewhere")
    photo().save(folder / "photo.png")
    photo(96, 48).save(folder / "wide.png")
    return folder


@pytest.fixture
def session(place: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.chdir(place)
    return Session()


def test_what_people_type() -> None:
    plain = ControlRef.model_validate("canny=photo.jpg")
    assert (plain.kind, plain.image.name, plain.strength, plain.start, plain.end) == (
        "canny",
        "photo.jpg",
        1.0,
        0.0,
        1.0,
    )
    full = ControlRef.model_validate("pose=C:\\my maps\\a:b.png:0.8:0-.6")
    assert (full.image.name, full.strength, full.start, full.end) == ("C:\\my maps\\a:b.png", 0.8, 0.0, 0.6)
    assert ControlRef.model_validate("openpose=a.png：0.5").kind == "pose"
    assert ControlRef.model_validate("HED＝a.png").kind == "softedge"
    assert ControlRef.model_validate("none=地图.png").image.name == "地图.png"


@given(
    st.sampled_from(sorted(CONTROL_KINDS)),
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).filter(lambda t: ":" not in t),
    st.integers(0, 200),
    st.integers(0, 98),
)
def test_the_text_of_a_control_is_read_back(kind: Any, name: Any, strength: Any, start: Any) -> None:
    ref = ControlRef(kind=kind, image=name, strength=strength / 100, start=start / 100, end=0.99)
    assert ControlRef.model_validate(str(ref)) == ref


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("photo.jpg", "say what it is, too: canny=photo.jpg"),
        ("canny=", "say what it is, too"),
        ("cany=photo.jpg", "unknown kind of control 'cany'"),
        ("canny=photo.jpg:3", "control.0.strength 3 is too large: use 2.0 or less"),
        ("canny=photo.jpg:1:0.6-0.5", "it ends at 0.5 and begins at 0.6"),
        ("canny=photo.jpg:1:0-2", "control.0.end 2 is too large: use 1.0 or less"),
    ],
)
def test_what_is_wrong_is_one_line(session: Session, text: str, line: str) -> None:
    with pytest.raises(BadBrief, match=line):
        paint("a fox", control=text, session=session, **SMALL)


def test_canny_is_opencvs() -> None:
    picture = photo()
    expected = cv2.Canny(np.asarray(picture), 100, 200)
    assert np.array_equal(np.asarray(control_map(picture, "canny")), expected)


@pytest.mark.parametrize("kind", [name for name, kind in CONTROL_KINDS.items() if kind.computed])
def test_maps_are_white_where_there_is_a_contour(kind: str) -> None:
    drawn = np.asarray(control_map(photo(256, 256), kind)).astype(float)
    edges = cv2.dilate(cv2.Canny(np.asarray(photo(256, 256)), 100, 200), np.ones((9, 9))) > 0
    assert drawn.shape == (256, 256)
    assert drawn[edges].mean() > 8 * max(drawn[~edges].mean(), 0.5)
    assert drawn.max() > 200
    flat = np.asarray(control_map(Image.new("RGB", (64, 48), "gray"), kind))
    assert flat.shape == (48, 64)
    assert not flat.any()


def test_painting_under_control(session: Session) -> None:
    """It follows, keeps how, and the same command paints the same."""
    [plain] = paint("a fox", session=session, **SMALL)
    [steered] = paint("a fox", control="canny=photo.png:0.9:0-0.8", session=session, **SMALL)
    [other] = paint("a fox", control="canny=photo.png:0.2:0-0.8", session=session, **SMALL)
    assert len({picture.image.tobytes() for picture in (plain, steered, other)}) == 3
    assert steered.brief.control == ("canny=photo.png:0.9:0-0.8",)
    assert steered.brief.control_model == ("control_v11p_canny",)
    steered.save("kept.png")
    line = shlex.split(_command(Picture.open("kept.png")))
    assert line[line.index("--control") + 1] == "canny=photo.png:0.9:0-0.8"
    assert cli.run([*line[1:], "--out", "again.png", "--quiet"]) == 0
    assert Picture.open("again.png").image.tobytes() == steered.image.tobytes()
    [from_it] = paint("", settings_of="kept.png", session=session)
    assert from_it.image.tobytes() == steered.image.tobytes()


def test_pictures_of_python(session: Session) -> None:
    [by_name] = paint("a fox", control="canny=photo.png", session=session, **SMALL)
    for control in ({"canny": photo()}, [{"kind": "canny", "image": photo()}]):
        [picture] = paint("a fox", control=control, session=session, **SMALL)
        assert picture.image.tobytes() == by_name.image.tobytes()


def test_several_and_a_ready_map(session: Session) -> None:
    """The depth is a map already; which ControlNet fits the model, its width tells."""
    maps = ["canny=photo.png", "depth=photo.png:0.7"]
    [both] = paint("a fox", control=maps, session=session, **SMALL)
    assert both.brief.control_model == ("control_v11p_canny", "sd-controlnet-depth")
    [one] = paint("a fox", control=maps[1:], session=session, **SMALL)
    assert one.image.tobytes() != both.image.tobytes()
    [named] = paint(
        "a fox", control="none=photo.png:0.7", control_model="elsewhere", session=session, **SMALL
    )
    assert named.brief.control_model == ("elsewhere",)
    assert named.image.tobytes() != one.image.tobytes()


def test_the_picture_has_the_shape_of_what_it_follows(session: Session) -> None:
    size = {name: value for name, value in SMALL.items() if name not in ("width", "height")}
    app = find_app("paint")
    inputs = app.parse({"prompt": "a fox", "control": "canny=wide.png", **size}, session)
    assert inputs.resolved_brief.width > 1.8 * inputs.resolved_brief.height
    assert any("in the shape of wide.png" in note for note in inputs.notes)
    inputs = app.parse({"prompt": "a fox", "control": "canny=wide.png", **SMALL}, session)
    assert (inputs.resolved_brief.width, inputs.resolved_brief.height) == (64, 64)


@pytest.mark.parametrize("app", ["redraw", "inpaint"])
def test_redraw_and_inpaint(session: Session, app: str) -> None:
    fields = {"image": "photo.png", "prompt": "a fox", **SMALL}
    if app == "inpaint":
        mask = Image.new("L", (96, 96))
        mask.paste(255, (20, 20, 70, 70))
        fields["mask"] = mask
    function = find_app(app)
    [plain] = function(session=session, **fields)
    [steered] = function(session=session, control="canny=photo.png", **fields)
    assert steered.image.tobytes() != plain.image.tobytes()
    assert steered.info.inputs["control"] == ["canny=photo.png"]
    assert steered.brief.control_model == ("control_v11p_canny",)
    assert "--control canny=photo.png --control-model control_v11p_canny" in _command(steered)
    larger = photo(192, 192)
    [resized] = function(session=session, control={"canny": larger}, **fields)
    assert resized.image.size == ((64, 64) if app == "redraw" else (96, 96))
    with pytest.raises(BadBrief, match=r"control 'wide.png' is 96x48, the picture 96x96: give one of the sa"):
        function(session=session, control="canny=wide.png", **fields)


def test_what_is_missing_is_said_before_a_model_is_opened(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danqing.families.open_painter", lambda *_: pytest.fail("opened"))
    parse = find_app("redraw").parse
    cases = {
        "no ControlNet or T2I-Adapter for pose: put one whose name says 'pose' into the folder 'controls'": {
            "control": "pose=photo.png"
        },
        "control 'none' tells no ControlNet: name one with control_model": {"control": "none=photo.png"},
        "unknown ControlNet or T2I-Adapter 'cany'": {"control": "canny=photo.png", "control_model": "cany"},
        "control_model 'elsewhere' has nothing to follow": {"control_model": "elsewhere"},
    }
    for line, fields in cases.items():
        with pytest.raises(BadBrief, match=line):
            parse({"image": "photo.png", "prompt": "a fox", **SMALL, **fields}, session)
    with pytest.raises(
        BadBrief, match="unknown ControlNet or T2I-Adapter 'elsewhere'"
    ):  # a server opens no path
        parse(
            {"image": "photo.png", "prompt": "a", "control": "none=photo.png", "control_model": "elsewhere"},
            NamedSession(),
        )


def test_what_does_not_fit(session: Session, place: Path) -> None:
    with pytest.raises(BadWeights, match=r"is a ControlNet of .* and this model is"):
        paint(
            "a",
            control="depth=photo.png",
            control_model="a_depth_of_another",
            session=session,
            **SMALL,
        )
    (place / "others").mkdir()
    (place / "others" / "depth.safetensors").symlink_to(place / "controls" / "a_depth_of_another.safetensors")
    session.controls = Path("others")
    with pytest.raises(
        BadBrief, match="no ControlNet or T2I-Adapter for depth steers model 'tiny', of depth"
    ):
        paint("a", control="depth=photo.png", session=session, **SMALL)
    (place / "others" / "depth.safetensors").rename(place / "others" / "depth.pth")
    with pytest.raises(BadWeights, match=r"depth.pth' is a pickle"):
        paint("a", control="depth=photo.png", session=session, **SMALL)
    session.controls = Path("controls")
    with pytest.raises(BadBrief, match=r"takes no control: use a Stable Diffusion 1, 2 or XL"):
        paint("a number 3", model="gan", control="canny=photo.png", session=session, seed=1)


def test_the_schema_is_plain() -> None:
    schema = find_app("paint").schema()
    entry = schema["properties"]["control"]
    assert entry["items"] == {"type": "string", "format": "control", "minLength": 1}
    assert entry["group"] == "control"
    assert "ControlRef" not in json.dumps(schema)


def test_networks_stay_warm(session: Session) -> None:
    paint("a fox", control="canny=photo.png", session=session, **SMALL)
    [network] = [net for key, net in session._open.items() if key.startswith("open_control")]
    paint("a cat", control="canny=photo.png", session=session, **SMALL)
    assert [net for key, net in session._open.items() if key.startswith("open_control")] == [network]
    assert next(network.parameters()).dtype == torch.float32
