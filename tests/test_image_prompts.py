"""Pictures as prompts and T2I-Adapters: what people type, what is chosen, what is kept and refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from danqing import Picture, Session, paint
from danqing.apps import NamedSession, find_app
from danqing.core.control import ImagePromptRef
from danqing.core.errors import BadBrief, BadWeights
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli.show import _command
from tests.image_prompts import image_encoder, ip_adapter, original_t2i, t2i_adapter
from tests.single_files import SD1, SDXL, tiny, write_model
from tests.test_control import SMALL, photo


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Stable Diffusion 1, and IP-Adapters, an image encoder and a T2I-Adapter."""
    folder = tmp_path_factory.mktemp("prompts")
    components = tiny(SD1)
    write_model(folder / "tiny.safetensors", components)
    controls = folder / "controls"
    controls.mkdir()
    save_file(ip_adapter(tiny(SDXL).unet), controls / "an-ip-adapter_sdxl.safetensors")
    save_file(ip_adapter(components.unet), controls / "ip-adapter_sd15.safetensors")
    save_file(ip_adapter(components.unet, "plus", 1), controls / "ip-adapter-plus_sd15.safetensors")
    save_file(ip_adapter(components.unet, projection=40), controls / "strange_ip.safetensors")
    image_encoder().save_pretrained(controls / "image_encoder")
    save_file(original_t2i(t2i_adapter(components.unet)), controls / "t2iadapter_canny_sd15v2.safetensors")
    xl = t2i_adapter(tiny(SDXL).unet, "full_adapter_xl")
    xl.save_pretrained(controls / "a-t2i-adapter-canny-sdxl-1.0")
    photo().save(folder / "photo.png")
    photo(96, 48).save(folder / "wide.png")
    return folder


@pytest.fixture
def session(place: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.chdir(place)
    return Session()


def test_what_people_type() -> None:
    plain = ImagePromptRef.model_validate("photo.jpg")
    assert (plain.image.name, plain.strength, plain.start, plain.end) == ("photo.jpg", 1.0, 0.0, 1.0)
    full = ImagePromptRef.model_validate("C:\\my photos\\a:b.png：0.6:0.2-.8")
    assert (full.image.name, full.strength, full.start, full.end) == ("C:\\my photos\\a:b.png", 0.6, 0.2, 0.8)
    assert ImagePromptRef.model_validate(str(full)) == full
    assert ImagePromptRef.model_validate(photo()).image.name == "picture"
    style = ImagePromptRef.model_validate("Style＝a=b.png:0.6")
    assert (style.part, style.image.name, str(style)) == ("style", "a=b.png", "style=a=b.png:0.6")
    assert (
        ImagePromptRef.model_validate("all=a.png").part
        == ImagePromptRef.model_validate("x=a.png").part
        == "all"
    )


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"ip_image": "photo.png:3"}, "ip_image.0.strength 3 is too large: use 2.0 or less"),
        ({"ip_image": "photo.png:1:0.6-0.5"}, "it ends at 0.5 and begins at 0.6"),
        ({"ip_image": ""}, "name a picture, as photo.jpg"),
        ({"ip_image": "style="}, "name a picture, as style=photo.jpg"),
        ({"ip_image": {"image": "photo.png", "part": "face"}}, "unknown part of an image prompt 'face'"),
        ({"ip_adapter": "ip-adapter_sd15"}, "ip_adapter 'ip-adapter_sd15' has nothing to look at"),
        ({"ip_image": "photo.png", "ip_adapter": "ip-adaptor"}, "unknown IP-Adapter 'ip-adaptor'"),
    ],
)
def test_what_is_wrong_is_one_line(
    session: Session, fields: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danqing.families.open_painter", lambda *_: pytest.fail("opened"))
    with pytest.raises(BadBrief, match=line):
        find_app("redraw").parse({"image": "photo.png", "prompt": "a fox", **fields, **SMALL}, session)


def test_a_picture_as_a_prompt(session: Session) -> None:
    """The IP-Adapter for the model is found, the picture keeps it, and its command paints the same."""
    [plain] = paint("a fox", session=session, **SMALL)
    [looking] = paint("a fox", ip_image="photo.png:0.7:0-0.8", session=session, **SMALL)
    [weaker] = paint("a fox", ip_image="photo.png:0.2:0-0.8", session=session, **SMALL)
    assert len({picture.image.tobytes() for picture in (plain, looking, weaker)}) == 3
    assert looking.brief.ip_image == ("photo.png:0.7:0-0.8",)
    assert looking.brief.ip_adapter == ("ip-adapter-plus_sd15",)
    [after] = paint("a fox", session=session, **SMALL)
    assert after.image.tobytes() == plain.image.tobytes()
    looking.save("kept.png")
    line = shlex.split(_command(Picture.open("kept.png")))
    assert line[line.index("--ip-image") + 1] == "photo.png:0.7:0-0.8"
    assert cli.run([*line[1:], "--out", "again.png", "--quiet"]) == 0
    assert Picture.open("again.png").image.tobytes() == looking.image.tobytes()
    [from_it] = paint("", settings_of="kept.png", session=session)
    assert from_it.image.tobytes() == looking.image.tobytes()
    reroll = find_app("reroll").parse({"image": "kept.png", "seed": 4}, session)
    assert any("only its words are painted again" in note for note in reroll.notes)
    assert reroll.resolved_brief.ip_image == reroll.resolved_brief.ip_adapter == ()


def test_several(session: Session) -> None:
    """One name looks at all pictures; several do in their order."""
    images = ["photo.png:0.6", "wide.png:0.5"]
    name = "ip-adapter_sd15"
    [one] = paint("a fox", ip_image=images, ip_adapter=name, session=session, **SMALL)
    assert one.brief.ip_adapter == (name, name)
    both = [name, "ip-adapter-plus_sd15"]
    [two] = paint("a fox", ip_image=images, ip_adapter=both, session=session, **SMALL)
    assert two.brief.ip_adapter == tuple(both)
    [swapped] = paint("a fox", ip_image=images[::-1], ip_adapter=name, session=session, **SMALL)
    [by_picture] = paint(
        "a fox",
        ip_image=[{"image": photo(), "strength": 0.6}, {"image": photo(96, 48), "strength": 0.5}],
        ip_adapter=name,
        session=session,
        **SMALL,
    )
    assert by_picture.image.tobytes() == one.image.tobytes()
    assert two.image.tobytes() != one.image.tobytes()
    other, same = (np.asarray(picture.image).astype(int) for picture in (swapped, one))
    assert abs(other - same).max() <= 1  # sums in another order


@pytest.mark.parametrize("app", ["redraw", "inpaint"])
def test_redraw_and_inpaint(session: Session, app: str) -> None:
    fields = {"image": "photo.png", "prompt": "a fox", **SMALL}
    if app == "inpaint":
        mask = photo().convert("L").point(lambda value: 255 * (value < 128))
        fields["mask"] = mask
    function = find_app(app)
    [plain] = function(session=session, **fields)
    [looking] = function(session=session, ip_image="wide.png:0.8", **fields)
    assert looking.image.tobytes() != plain.image.tobytes()
    assert looking.info.inputs["ip_image"] == ["wide.png:0.8"]
    assert "--ip-image wide.png:0.8 --ip-adapter ip-adapter-plus_sd15" in _command(looking)


def test_a_t2i_adapter_follows_as_a_controlnet_does(session: Session) -> None:
    """The one for the model is found, by its file, beside one for another; with an image prompt, too."""
    [plain] = paint("a fox", session=session, **SMALL)
    [steered] = paint("a fox", control="canny=photo.png:0.9", session=session, **SMALL)
    assert steered.brief.control_model == ("t2iadapter_canny_sd15v2",)
    assert steered.image.tobytes() != plain.image.tobytes()
    fields = {"control": "canny=photo.png:0.9", "ip_image": "photo.png:0.5"}
    [both] = paint("a fox", session=session, **fields, **SMALL)
    assert both.image.tobytes() not in (plain.image.tobytes(), steered.image.tobytes())
    [after] = paint("a fox", session=session, **SMALL)
    assert after.image.tobytes() == plain.image.tobytes()
    wrong = {"control": "canny=photo.png", "control_model": "a-t2i-adapter-canny-sdxl-1.0"}
    with pytest.raises(BadWeights, match=r"is a T2I-Adapter of Stable Diffusion XL, and this model is"):
        paint("a fox", session=session, **wrong, **SMALL)


def test_what_does_not_fit(session: Session, tmp_path: Path) -> None:
    def look(adapter: str | None = None, **fields: Any) -> None:
        named = {} if adapter is None else {"ip_adapter": adapter}
        paint("a fox", session=session, **{"ip_image": "photo.png", **SMALL, **named, **fields})

    with pytest.raises(BadWeights, match=r"is an IP-Adapter of .*, and this model is"):
        look("an-ip-adapter_sdxl")
    with pytest.raises(
        BadBrief, match=r"needs the image encoder whose numbers are 40 wide: put its folder or"
    ):
        look("strange_ip")
    with pytest.raises(BadBrief, match=r"style of an image prompt can be told apart in .* XL only, not in"):
        look(ip_image="style=photo.png")
    with pytest.raises(BadWeights, match=r"is a T2I-Adapter.*: give an IP-Adapter"):
        look("t2iadapter_canny_sd15v2")
    with pytest.raises(BadBrief, match=r"takes no control: use a Stable Diffusion 1, 2 or XL"):
        look(model="gan", width=None, height=None, steps=None)
    session.controls = tmp_path / "controls"
    with pytest.raises(
        BadBrief, match=r"no IP-Adapter for ip_image: put one whose name says 'ip-adapter' into"
    ):
        look()
    session.controls.mkdir()
    (session.controls / "ip-adapter_sd15.bin").write_bytes(b"\x80\x02")
    with pytest.raises(BadWeights, match=r"ip-adapter_sd15.bin' is a pickle"):
        look()
    (session.controls / "ip-adapter_sd15.bin").unlink()
    source = Path("controls/an-ip-adapter_sdxl.safetensors").resolve()
    (session.controls / "ip-adapter_xl.safetensors").symlink_to(source)
    with pytest.raises(BadBrief, match=r"no IP-Adapter is for model 'tiny', of ip-adapter_xl: name one"):
        look()
    inputs = {"prompt": "a fox", "image": "photo.png", "ip_image": "photo.png", "ip_adapter": str(source)}
    with pytest.raises(BadBrief, match="unknown IP-Adapter"):  # a server opens no path
        find_app("redraw").parse(inputs, NamedSession())


@pytest.mark.parametrize("name", ["clip_vision/ViT-H.safetensors", "image_encoder/ViT-H"])
def test_where_an_image_encoder_may_be(session: Session, tmp_path: Path, name: str) -> None:
    """In folders as ComfyUI and others have them, one of several, by its width."""
    controls = tmp_path / "controls"
    controls.mkdir()
    adapter = Path("controls/ip-adapter_sd15.safetensors").resolve()
    (controls / adapter.name).write_bytes(adapter.read_bytes())
    session.controls = controls
    with pytest.raises(BadBrief, match="needs the image encoder"):
        paint("a fox", ip_image="photo.png", session=session, **SMALL)
    target = controls / name
    target.parent.mkdir()
    image_encoder(projection=48).save_pretrained(target.with_name("another"))
    if target.suffix:
        save_file(image_encoder().state_dict(), target)
    else:
        image_encoder().save_pretrained(target)
    [picture] = paint("a fox", ip_image="photo.png", session=session, **SMALL)
    assert picture.brief.ip_adapter == ("ip-adapter_sd15",)


def test_networks_stay_warm(session: Session) -> None:
    def open_networks() -> list[Any]:
        return [net for key, net in session._open.items() if key.startswith(("open_ip", "open_image"))]

    paint("a fox", ip_image="photo.png", session=session, **SMALL)
    networks = open_networks()
    assert len(networks) == 2
    paint("a cat", ip_image="photo.png", session=session, **SMALL)
    assert open_networks() == networks


def test_the_schema_is_plain() -> None:
    schema = find_app("paint").schema()
    entry = schema["properties"]["ip_image"]
    assert entry["items"] == {"type": "string", "format": "weighted-image", "minLength": 1}
    assert entry["group"] == "control"
    assert "ImagePromptRef" not in json.dumps(schema)
