"""Words behind a command: pictures one by one, and stray words refused by name."""

from __future__ import annotations

import io
import os
import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danqing.apps._registry import find_app
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.families.stable_diffusion.painter import random_components, save_folder
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli.arguments import read_arguments
from tests.command_line import Answer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(random_components("tiny"), folder)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with pictures."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("fox.png", "odd.png", "m.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name)
    Path("photos").mkdir()
    Image.open("fox.png").save("photos/a.png")
    Image.open("odd.png").save("photos/b.png")


@pytest.fixture
def ask(here: None, capfd: pytest.CaptureFixture[str], tiny: Path) -> Callable[..., Answer]:  # noqa: ARG001
    def run(*argv: str) -> Answer:
        code = cli.run([argv[0], "--model", str(tiny), "--steps", "2", *argv[1:]])
        return Answer(code, *capfd.readouterr())

    return run


READ = [
    ("redraw", "fox.png a red fox", {"prompt": "a red fox"}, ("fox.png",)),
    ("redraw", "fox.png odd.png photos/ 'a fox'", {"prompt": "a fox"}, ("fox.png", "odd.png", "photos/")),
    ("redraw", "nofile fox", {"prompt": "fox"}, ("nofile",)),
    ("redraw", "fox.png 'logo.png on a table'", {"prompt": "logo.png on a table"}, ("fox.png",)),
    ("redraw", "- a fox", {"prompt": "a fox"}, ("-",)),
    ("pan", "fox.png left a fox", {"to": "left", "prompt": "a fox"}, ("fox.png",)),
    ("upscale", "fox.png odd.png 2", {"cell": "2"}, ("fox.png", "odd.png")),
    ("describe", "fox.png odd.png", {}, ("fox.png", "odd.png")),
    ("score", "fox.png a fox", {"pictures": ["fox.png"], "words": "a fox"}, ()),
    ("score", "fox.png photos 'a fox'", {"pictures": ["fox.png", "photos"], "words": "a fox"}, ()),
    ("search", "photos a red fox", {"folder": "photos", "words": "a red fox"}, ()),
    ("learn", "fox fox.png photos", {"name": "fox", "images": ["fox.png", "photos"]}, ()),
    ("blend", "fox.png odd.png", {"images": ["fox.png", "odd.png"]}, ()),
    ("paint", "fox.png a fox", {"prompt": "fox.png a fox"}, ()),
    ("paint", "", {}, ()),
    ("redraw", "'a fox' fox.png odd.png", {"prompt": "a fox"}, ("fox.png", "odd.png")),
    ("score", "a fox fox.png", {"pictures": ["fox.png"], "words": "a fox"}, ()),
    ("redraw", "missing.png fox.png a fox", {"prompt": "a fox"}, ("missing.png", "fox.png")),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("app", "words", "values", "pictures"), READ)
def test_words_are_sorted(app: str, words: str, values: dict[str, object], pictures: tuple[str, ...]) -> None:
    arguments = read_arguments(find_app(app), shlex.split(words))
    assert (arguments.values, arguments.pictures) == (values, pictures)


STRAY = [
    (
        "inpaint fox.png fox m.png",
        "'m.png' is not expected here: put it before the words, or give it as --mask",
    ),
    ("inpaint fox.png fox missing.png", "'missing.png' is not expected here: put it before the words"),
    ("redraw fox.png 'a fox' odd.png", "'odd.png' is not expected here: put it before the words"),
    ("upscale fox.png 'a fox'", "'a fox' is not expected here: words go in --prompt 'a fox'"),
    ("vary fox.png 2 fox", "'fox' is not expected here: words go in --prompt 'fox'"),
    ("reroll fox.png fox", "'fox' is not expected here: danqing reroll takes image only"),
    ("describe fox.png please", "'please' is not expected here: danqing describe takes image only"),
    (
        "search photos odd.png",
        "'odd.png' is not expected here: it is a picture, not words, or give it as --like",
    ),
    ("score fox.png odd.png", "'odd.png' is a file or a folder: put the words behind the pictures"),
    ("paint a fox odd.png", "'odd.png' is not expected here: only one picture can stand in front"),
    ("animate odd.png", "give it as --start odd.png"),
    ("blend fox.png", "'fox.png' alone cannot be blended: give two to five pictures, or words in --prompt"),
    ("blend fox.png a fox", "no picture at 'a'"),
    ("redraw", "Missing argument 'IMAGE'"),
    ("redraw fox.png", "Missing argument 'PROMPT...'"),
    ("score fox.png", "Missing argument 'WORDS...'"),
    ("show fox.png odd.png", "(odd.png)"),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("line", "says"), STRAY)
def test_a_stray_word_is_refused_by_name(
    capfd: pytest.CaptureFixture[str],
    line: str,
    says: str,
) -> None:
    code = cli.run(shlex.split(line))
    answer = Answer(code, *capfd.readouterr())
    assert answer.code in (1, 2)
    assert answer.err.count("\n") == 1
    assert says in answer.err
    assert answer.out == ""


def test_each_picture_is_worked_on_and_one_that_cannot_be_read_stops_nothing(
    ask: Callable[..., Answer],
) -> None:
    Path("bad.png").touch()
    answer = ask("redraw", "fox.png", "bad.png", "photos/", "a fox", "--seed", "3")
    assert answer.out.split() == [f"paintings/{name}-redraw-3.png" for name in ("fox", "a", "b")]
    assert answer.code == 1
    said = [row for row in answer.err.splitlines() if row.startswith("danqing: ")]
    assert "'bad.png' is empty" in said[0]
    assert said[1] == "danqing: 1 of 4 failed, 3 are done"
    assert Picture.open("paintings/b-redraw-3.png").brief.image == "photos/b.png"


def test_several_pictures_do_not_share_a_file(ask: Callable[..., Answer]) -> None:
    answer = ask("redraw", "fox.png", "odd.png", "a fox", "--out", "one.png")
    assert (answer.code, answer.out) == (2, "")
    assert "--out one.png holds one picture: give a folder/ for 2 requests" in answer.err


def test_a_picture_comes_from_standard_input(
    ask: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    send(Path("fox.png").read_bytes())
    answer = ask("redraw", "-", "a fox", "--seed", "3", "--out", "a.png")
    assert answer.code == 0, answer.err
    assert ask("redraw", "fox.png", "a fox", "--seed", "3", "--out", "b.png").code == 0
    one, two = Picture.open("a.png"), Picture.open("b.png")
    assert one.image.tobytes() == two.image.tobytes()
    assert one.info.parent == two.info.parent
    send(b"")
    assert "standard input is empty" in ask("redraw", "-", "a fox").err
    send(b"junk")
    assert "not a PNG" in ask("redraw", "-", "a fox").err


def test_a_picture_comes_out_of_a_pipe(here: None) -> None:  # noqa: ARG001
    os.mkfifo("pipe")
    data = Path("fox.png").read_bytes()
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(data))
    writer.start()
    inputs = find_app("redraw").inputs.of_values(image="pipe", prompt="a fox")
    assert inputs.image.source.image.size == (64, 64)
    writer.join()


def test_learn_says_no_to_a_name_that_is_too_long(here: None) -> None:  # noqa: ARG001
    with pytest.raises(BadBrief, match=r"name 'n+…n+' is too long"):
        find_app("learn").inputs.of_values(name="n" * 300, images=["fox.png"])
