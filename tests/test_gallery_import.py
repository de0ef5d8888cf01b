"""Pictures from and to folders: what other programs wrote is kept, nothing is taken twice."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import danqing
from danqing.core.picture import Picture
from danqing.interfaces.server.views import repaint_request
from danqing.studio.browse import Filter
from danqing.studio.exports import bare_png
from danqing.studio.imports import import_folder
from danqing.studio.store import Store
from tests.command_line import Ask
from tests.test_other_programs import A1111, COMFY, LINKS
from tests.toy import Toy

INVOKE = {"positive_prompt": "a lighthouse", "seed": 5, "steps": 9, "cfg_scale": 4.5, "scheduler": "euler"}
FOOOCUS = {
    "prompt": "a harbour",
    "negative_prompt": "people",
    "styles": "['Fooocus V2']",
    "performance": "Speed",
    "steps": 30,
    "resolution": "(1152, 896)",
    "guidance_scale": 4.0,
    "sharpness": 2.0,
    "base_model": "juggernaut",
    "base_model_hash": "aeb7e9e689",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "8",
    "metadata_scheme": "fooocus",
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "studio")
    yield store
    store.close()


def write(path: Path, shade: int, **chunks: str) -> None:
    """A picture with text in it; its shade tells it from the others."""
    info = PngInfo()
    for name, text in chunks.items():
        info.add_text(name, text)
    Image.new("RGB", (32, 48), (shade, 0, 0)).save(path, pnginfo=info)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture of each program, some by none, and what is no picture."""
    folder = tmp_path / "pictures"
    (folder / "2024").mkdir(parents=True)
    write(folder / "a1111.png", 1, parameters=A1111)
    write(folder / "2024" / "comfy.png", 2, prompt=json.dumps(COMFY), workflow=json.dumps({"links": LINKS}))
    write(folder / "invoke.png", 3, invokeai_metadata=json.dumps(INVOKE))
    write(folder / "fooocus.png", 4, parameters=json.dumps(FOOOCUS), fooocus_scheme="fooocus")
    Image.new("RGB", (24, 24), "teal").save(folder / "photo.JPG", "JPEG")
    Image.new("RGB", (24, 24), "navy").save(folder / "still.webp")
    [made] = danqing.paint("a red {apple|pear}", painter=Toy(), seed=3)
    made.save(folder / "ours.png")
    (folder / "damaged.png").write_bytes((folder / "ours.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("no picture")
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        os.utime(path, (1_600_000_000 + 86400 * number,) * 2)
    return folder


def test_a_folder_of_every_program(store: Store, folder: Path) -> None:
    outcomes = {o.path.name: o for o in import_folder(store, "local", folder, None)}
    assert "notes.txt" not in outcomes
    assert outcomes.pop("damaged.png").id is None
    rows = {name: store.gallery.get("local", str(o.id)) for name, o in outcomes.items()}
    assert all(outcome.new for outcome in outcomes.values())
    a1111, comfy = rows["a1111.png"], rows["comfy.png"]
    assert (a1111.prompt, a1111.seed, a1111.model) == ("a fox, (red:1.3)", 1234, "v1-5")
    assert a1111.brief["negative_prompt"] == "dog"
    assert (a1111.info["program"], a1111.brief["width"]) == ("AUTOMATIC1111", 512)
    assert (comfy.prompt, comfy.seed, comfy.brief["sampler"]) == ("a castle at night", 99, "dpmpp_2m_karras")
    assert (rows["invoke.png"].prompt, rows["invoke.png"].seed) == ("a lighthouse", 5)
    fooocus = rows["fooocus.png"]
    assert (fooocus.prompt, fooocus.seed, fooocus.model) == ("a harbour", 8, "juggernaut")
    assert (fooocus.brief["guidance"], fooocus.brief["negative_prompt"]) == (4.0, "people")
    assert (rows["photo.JPG"].format, rows["photo.JPG"].prompt) == ("jpg", "")
    for name, row in rows.items():
        source = next(folder.rglob(name))
        assert store.gallery.path(row.file).read_bytes() == source.read_bytes()
        assert row.created == source.stat().st_mtime
        assert store.gallery.thumbnail(row).exists()
    newest = [row.created for row in store.browser.page(Filter("local"))]
    assert newest == sorted(newest, reverse=True)
    assert [match.row.id for match in store.browser.by_words("castle", Filter("local"))] == [comfy.id]
    assert store.sweep() == {"removed": 0, "changed": 0}


def test_ours_can_be_painted_again_and_others_cannot(store: Store, folder: Path) -> None:
    rows = {
        o.path.name: store.gallery.get("local", o.id)
        for o in import_folder(store, "local", folder, None)
        if o.id
    }
    made = Picture.open(folder / "ours.png")
    job = repaint_request(rows["ours.png"])
    assert job is not None
    assert job.app == "paint"
    [same] = danqing.paint(painter=Toy(), **{k: v for k, v in job.inputs.items() if k != "model"})
    assert same.image.tobytes() == made.image.tobytes()
    assert repaint_request(rows["a1111.png"]) is None


def test_nothing_is_taken_twice(store: Store, folder: Path) -> None:
    first = {o.path: o.id for o in import_folder(store, "local", folder, None)}
    second = list(import_folder(store, "local", folder, None))
    assert {o.path: o.id for o in second} == first
    assert not any(o.new for o in second)
    assert len(list(import_folder(store, "you", folder, None))) == len(first)
    assert len(store.browser.page(Filter("you"))) == len(first) - 1


def test_commands(folder: Path, tmp_path: Path, ask: Ask) -> None:
    where = ["--folder", str(tmp_path / "studio")]
    answer = ask("gallery", "import", str(folder), "--no-meaning", *where)
    assert answer.out == "7 new pictures, 0 there before, 1 refused\n"
    assert "damaged.png" in answer.err
    out = tmp_path / "copies"
    names = {Path(line).name for line in ask("gallery", "export", str(out), *where).out.split("\n") if line}
    assert {"a-fox-red-1-3-1234.png", "a-castle-at-night-99.png", "a-lighthouse-5.png"} <= names
    with Image.open(out / "a-fox-red-1-3-1234.png") as image:
        assert image.text["parameters"] == A1111
        pixels = image.tobytes()
    bare = tmp_path / "bare"
    assert ask("gallery", "export", str(bare), "--strip", *where).code == 0
    with Image.open(bare / "a-fox-red-1-3-1234.png") as image:
        assert (image.text, image.tobytes()) == ({}, pixels)
    assert {path.suffix for path in bare.iterdir()} == {".png"}
    assert ask("gallery", "export", str(tmp_path / "none"), "--star", *where).out == ""


def test_a_check_mends_only_when_asked(folder: Path, tmp_path: Path, ask: Ask) -> None:
    studio = tmp_path / "studio"
    where = ["--folder", str(studio)]
    assert ask("gallery", "import", str(folder), "--no-meaning", *where).code == 0
    assert ask("gallery", "check", *where).out == "0 files without a picture, 0 pictures without their file\n"
    kept, lost, *_ = sorted((studio / "pictures").rglob("*.png"))
    lost.unlink()
    (kept.parent / "01ARZ3NDEKTSV4RRFFQ69G5FAV.png").write_bytes(b"half")
    for _ in range(2):
        answer = ask("gallery", "check", *where)
        assert answer.out == "1 files without a picture, 1 pictures without their file\n"
        assert (answer.code, "--repair" in answer.err) == (1, True)
    assert ask("gallery", "check", "--repair", *where).code == 0
    assert ask("gallery", "check", *where).code == 0


def test_a_bare_picture_says_nothing(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), "red")
    exif = Image.Exif()
    exif[0x010F] = "camera"
    image.save(tmp_path / "a.jpg", exif=exif, comment=b"secret")
    with Image.open(io.BytesIO(bare_png(tmp_path / "a.jpg"))) as bare:
        assert (dict(bare.getexif()), bare.info) == ({}, {})
