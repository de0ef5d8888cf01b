"""Films: what changes from frame to frame, the camera, the files, and the command."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from danqing.apps._camera import Move, warp
from danqing.apps._frame_folder import FrameFolder
from danqing.apps._session import Session
from danqing.apps._video import film_writer, find_ffmpeg, save_film
from danqing.apps.animate import animate
from danqing.conditioning.keyframes import KeyFrames, Script
from danqing.core.brief import Brief
from danqing.core.card import Can
from danqing.core.errors import BadBrief, BadPicture, DanqingError
from danqing.core.picture import Picture
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.disco.painter import DiscoPainter, disco_card
from danqing.families.stable_diffusion.painter import random_components, random_painter, save_folder
from danqing.interfaces.cli import main as cli
from tests.test_disco import QUICK, tiny_critic

SHORT: dict[str, Any] = {"frames": 3, "steps": 4, "seed": 5, "strength": 0.5}


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return random_painter()


# ---- words for frames


def test_key_frames_in_words() -> None:
    assert KeyFrames.parse("1.02").at(7) == 1.02
    keys = KeyFrames.parse("10: (1.05), 0: (1)")
    assert [keys.at(frame) for frame in (0, 5, 10, 99)] == [1, 1.025, 1.05, 1.05]
    assert KeyFrames.parse("5: -3").at(0) == -3
    for text in (
        "",
        "fast",
        "0: (1",
        "0: (sin(t))",
        "0: (1) 10: (2)",
        "0: (1),",
        "0: (1), 0: (2)",
        "-1: (2)",
    ):
        with pytest.raises(ValueError, match=r"key frames|two numbers"):
            KeyFrames.parse(text)


def test_a_script_tells_each_frame_its_words() -> None:
    script = Script.parse("0: a red apple | 20: a green apple:2 | 20: a worm:-0.5 | 9: a pear")
    assert [script.at(frame) for frame in (0, 8, 9, 19)] == ["a red apple"] * 2 + ["a pear"] * 2
    assert script.at(20) == script.at(500) == "a green apple::2 a worm::-0.5"
    assert Script.parse("a cat").at(3) == "a cat"
    assert Script.parse("5: a cat").at(0) == "a cat"  # the first scene holds before its time too
    assert Script.parse("a cat:3").at(0) == "a cat"
    for same in ("[a|b] cat", "a::2 b::-1", "(a:1.2) b", "[a:b:0.5]", "https://example.org/a", "a | b"):
        assert Script.parse(same).at(0) == same
    with pytest.raises(ValueError, match="frame 3 has no words"):
        Script.parse("0: a | 3: ")
    for text in ("a cat:-1", "0: a | 4: b:1 | 4: c:-1"):
        with pytest.raises(BadBrief, match="sum to"):
            Script.parse(text)


@pytest.mark.parametrize(
    "table",
    [
        {0: ["a lighthouse", "yellow colors:2"], 100: ["a ship"]},
        {0: ["(a) [b|c] 3:2 AND d::2 | 7: e"], 4: [r"a \ b", "x:0.25"]},
    ],
)
def test_a_table_of_prompts_becomes_a_script_and_back(table: dict[int, list[str]]) -> None:
    script = Script.of(table)
    assert Script.parse(script.text) == script


# ---- the camera


def picture(size: Any = 64, channels: int = 3) -> torch.Tensor:
    """Smooth, so that interpolation is exact enough."""
    line = torch.linspace(-1, 1, size)
    x, y = line.expand(size, -1), line[:, None].expand(-1, size)
    planes = [torch.sin(2 * x + y), torch.cos(x - 2 * y), x * y, torch.sin(x)][:channels]
    return torch.stack(planes)[None] * 0.9


def test_no_move_leaves_the_very_numbers() -> None:
    x = picture()
    assert warp(x, Move()) is x
    for border in ("edge", "wrap", "empty"):
        torch.testing.assert_close(warp(x, Move(angle=360.0), border), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("move", [Move(7, 1.1, 3, -2), Move(angle=-20), Move(zoom=0.9), Move(right=4.5)])
@pytest.mark.parametrize("border", ["edge", "wrap", "empty"])
def test_the_inverse_brings_back_the_middle(move: Move, border: str) -> None:
    """Measured: 0.6 / 255 of the range."""
    x = picture()
    back = warp(warp(x, move, border), move.inverse, border)
    middle = (..., slice(20, 44), slice(20, 44))
    assert (back[middle] - x[middle]).abs().max() <= 2 / 255  # [-1, 1] is 2 wide


def test_moves_go_where_they_say() -> None:
    x = picture(channels=4)
    right = warp(x, Move(right=5, down=3))
    torch.testing.assert_close(right[..., 8:-8, 8:-8], x[..., 5:-11, 3:-13], rtol=0, atol=1e-5)
    turned = warp(x, Move(angle=90))
    torch.testing.assert_close(turned, x.rot90(1, (-2, -1)), rtol=0, atol=1e-4)
    double = warp(x, Move(zoom=2))
    torch.testing.assert_close(double[..., ::2, ::2].mean(), x[..., 16:48, 16:48].mean(), rtol=0, atol=0.03)
    wide = torch.rand(1, 3, 8, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(warp(wide, Move(right=7), "wrap"), wide.roll(7, -1), rtol=0, atol=1e-4)


def test_what_comes_in() -> None:
    x = torch.zeros(1, 4, 16, 16)
    for border, colour, alpha in (("edge", 0, 0), ("wrap", 0, 0), ("empty", 1, -1)):
        came = warp(x, Move(right=8), border)[..., 8, 2]
        torch.testing.assert_close(came[0], torch.tensor([colour] * 3 + [alpha], dtype=torch.float32))


# ---- films


def test_frames_follow_one_another(painter: DiffusionPainter) -> None:
    told: list[Any] = []
    frames = animate("a cat", painter=painter, zoom="1.05", progress=told.append, **SHORT)
    assert [frame.brief.seed for frame in frames] == [5, 6, 7]
    assert [frame.brief.strength for frame in frames] == [None, 0.5, 0.5]
    assert {frame.image.size for frame in frames} == {(128, 128)}
    assert (told[-1].step, told[-1].of) == (told[-1].of, told[-1].of)
    again = animate("a cat", painter=painter, zoom="1.05", **SHORT)
    assert [frame.image.tobytes() for frame in frames] == [frame.image.tobytes() for frame in again]
    still = animate("a cat", painter=painter, **SHORT)
    assert still[0].image.tobytes() == frames[0].image.tobytes()
    assert still[1].image.tobytes() != frames[1].image.tobytes()


def test_the_first_frame_is_the_picture_of_its_seed(painter: DiffusionPainter) -> None:
    from danqing.apps.paint import paint

    [alone] = paint("a cat", painter=painter, seed=5, steps=4, native=True)
    [frame] = animate("a cat", painter=painter, **{**SHORT, "frames": 1}, native=True)
    assert np.abs(np.asarray(alone.image).astype(int) - np.asarray(frame.image)).max() <= 1


def test_frames_are_told_the_words_of_their_time(painter: DiffusionPainter) -> None:
    frames = animate("0: a cat | 2: a dog", painter=painter, **SHORT)
    assert [frame.brief.prompt for frame in frames] == ["a cat", "a cat", "a dog"]
    same = animate("a cat", painter=painter, **SHORT)
    assert [a.image.tobytes() == b.image.tobytes() for a, b in zip(frames, same, strict=True)] == [
        True,
        True,
        False,
    ]


def test_a_film_from_a_picture_on_any_ground(painter: DiffusionPainter, tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "in.png")
    frames = animate(
        "a cat", painter=painter, start=str(tmp_path / "in.png"), background="transparent", **SHORT
    )
    assert {frame.image.mode for frame in frames} == {"RGBA"}
    assert frames[0].brief.strength == 0.5
    assert frames[0].info.parent is not None
    with pytest.raises(BadPicture, match="no picture"):
        animate("a cat", painter=painter, start=str(tmp_path / "none.png"), **SHORT)


def test_a_film_led_by_clip_and_set_by_a_file(painter: DiffusionPainter, tmp_path: Path) -> None:
    disco = DiscoPainter(disco_card("led", painter.card), painter, (tiny_critic(),), QUICK)
    path = tmp_path / "settings.txt"
    told = {"text_prompts": {"0": ["a cat:2", "fog:-1"]}, "eta": 0.9, "max_frames": 2, "steps": 4}
    path.write_text(json.dumps(told))
    notes: list[Any] = []
    frames = animate(painter=disco, settings=str(path), seed=5, strength=0.5, progress=notes.append)
    assert [frame.brief.prompt for frame in frames] == ["a cat::2 fog::-1"] * 2
    plain = animate("a cat::2 fog::-1", painter=disco, **{**SHORT, "frames": 2})
    assert plain[0].image.tobytes() != frames[0].image.tobytes()
    livelier = replace(disco, settings=QUICK.model_copy(update={"eta": 0.9}))
    same = animate("a cat::2 fog::-1", painter=livelier, **{**SHORT, "frames": 2})
    assert [a.image.tobytes() for a in same] == [b.image.tobytes() for b in frames]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"zoom": "0: (fast)"}, "zoom .*names no key frames"),
        ({"zoom": "0: (1), 5: (-1)"}, "reaches 0 or less"),
        ({"frames": 0}, "frames 0 is too small"),
        ({"seed": 2**32 - 2}, "seed 4294967294 \\+ frames 3 passes"),
        ({"count": 2}, "unknown field 'count'"),
        ({"strength": 0.1}, "is less than one step"),
        ({"border": "mirror"}, "border 'mirror'"),
        ({"settings": "none.txt"}, "no settings at 'none.txt'"),
        ({"prompt": ""}, "prompt is empty"),
        ({"width": 50}, "width 50 is not a multiple of"),
    ],
)
def test_what_cannot_be_is_one_line(painter: DiffusionPainter, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(BadBrief, match=said) as caught:
        animate(painter=painter, **{"prompt": "a cat", **SHORT, **asked})
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_redraw_is_told(painter: DiffusionPainter) -> None:
    card = painter.card.model_copy(update={"can": frozenset({Can.WORDS})})
    with pytest.raises(BadBrief, match="cannot redraw"):
        animate("a cat", painter=replace(painter, card=card), **SHORT)


# ---- files


def pictures(mode: str = "RGB") -> list[Picture]:
    brief = Brief(prompt="a cat", seed=1, width=8, height=8, steps=1, guidance=1, sampler="ddim")
    colours = ("red", "lime", "blue")
    return [Picture(Image.new(mode, (9, 7), colour), brief) for colour in colours]


@pytest.mark.parametrize("name", ["film.gif", "film.webp"])
def test_films_that_pillow_reads_again(tmp_path: Path, name: str) -> None:
    path = save_film(pictures("RGBA"), tmp_path / name, fps=10)
    with Image.open(path) as film:
        assert (film.n_frames, film.size) == (3, (9, 7))
        for k, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
            film.seek(k)
            shown = np.asarray(film.convert("RGB")).reshape(-1, 3)
            assert abs(shown.mean(axis=0) - colour).max() < 16
            assert film.info["duration"] == 100
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_folder_of_frames(tmp_path: Path) -> None:
    folder = FrameFolder(tmp_path / "film")
    for k, picture in enumerate(pictures()):
        folder.add(k, picture, picture)
    assert len(folder) == 3
    folder.finish()
    names = sorted(path.name for path in (tmp_path / "film").iterdir())
    assert names == ["frame-00000.png", "frame-00001.png", "frame-00002.png"]
    assert Picture.open(tmp_path / "film" / names[1]).image.getpixel((0, 0)) == (0, 255, 0)


def has_ffmpeg() -> bool:
    try:
        find_ffmpeg()
    except BadBrief:
        return False
    return True


@pytest.mark.skipif(not has_ffmpeg(), reason="no ffmpeg here")
def test_an_mp4(tmp_path: Path) -> None:
    path = save_film(pictures(), tmp_path / "film.mp4", fps=10)
    raw = subprocess.run(
        [find_ffmpeg(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    ).stdout
    shown = np.frombuffer(raw, np.uint8).reshape(3, 8, 10, 3)
    assert (shown[:, 3, 4].argmax(axis=-1) == [0, 1, 2]).all()


def test_an_mp4_without_ffmpeg_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BadBrief, match="needs ffmpeg: install it"):
        film_writer(tmp_path / "film.mp4")
    with pytest.raises(BadBrief, match=r"end the name with .gif, .webp, .mp4"):
        film_writer(tmp_path / "film.avi")


def test_an_ffmpeg_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "bin" / "ffmpeg"
    tool.parent.mkdir()
    tool.write_text(f"#!{shutil.which('sh')}\necho no such codec >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    with pytest.raises(DanqingError, match=r"could not write .mp4: no such codec"):
        save_film(pictures(), tmp_path / "film.mp4", fps=10)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


# ---- the command


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(random_components("tiny"), folder)
    return folder


def shown_frames(name: str) -> list[bytes]:
    with Image.open(name) as film:
        return [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(film)]


def test_the_command_and_the_settings_that_make_it_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["a cat", "--model", str(tiny), "--frames", "2", "--steps", "4", "--strength", "0.5"]
    assert cli.run(["animate", *asked, "--zoom", "0: (1.1)", "--angle=-5", "--out", "film.gif"]) == 0
    assert capfd.readouterr().out == "film.gif\n"
    first = shown_frames("film.gif")
    saved = json.loads(Path("film_settings.txt").read_text())
    assert saved["text_prompts"] == {"0": ["a cat:1"]}
    assert (saved["zoom"], saved["angle"], saved["max_frames"]) == ("0: (1.1)", "-5", 2)
    assert cli.run(["animate", "--settings", "film_settings.txt", "--out", "again.gif"]) == 0
    assert shown_frames("again.gif") == first
    assert cli.run(["show", "again.gif"]) == 0
    line = capfd.readouterr().out.splitlines()[-1]
    assert line.startswith("danqing animate")
    assert "--zoom '0: (1.1)'" in line
    assert json.loads(Path("again_settings.txt").read_text()) == saved


def test_the_command_fills_a_folder_and_show_tells_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["0: a cat | 1: a dog", "--model", str(tiny), "--frames", "2", "--steps", "4", "--seed", "3"]
    assert cli.run(["animate", *asked, "--strength", "0.5", "--out", "frames"]) == 0
    assert sorted(path.name for path in Path("frames").iterdir()) == [
        "frame-00000.png",
        "frame-00001.png",
        "settings.txt",
    ]
    capfd.readouterr()
    assert cli.run(["show", "frames/frame-00001.png"]) == 0
    line = capfd.readouterr().out.splitlines()[-1]
    assert line.startswith(f"danqing animate --model {tiny} --seed 3 --steps 4")
    assert line.endswith("--frames 2 --strength 0.5 '0: a cat | 1: a dog'")
    assert (
        cli.run(["animate", *asked, "--out", "frames"]) == 2
    )  # a shorter film would leave frames of this one
    assert "holds 2 frames of another film: --resume goes on" in capfd.readouterr().err


def test_a_settings_file_with_wrong_values_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "settings.txt"
    path.write_text('{"text_prompts": {"0": ["a cat"]}, "max_frames": "many"}')
    with pytest.raises(BadBrief, match="frames 'many' is not a whole number"):
        animate.parse({"settings": str(path)}, Session())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["a cat", "--out", "film.avi"], "end the name with"),
        (["a cat", "--zoom", "much"], "zoom"),
        (["a cat", "--settings", "none.txt"], "no settings at"),
        ([], "prompt is empty"),
        (["a cat", "--start", "none.png"], "no picture at"),
    ],
)
def test_the_command_refuses_before_it_paints(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    argv: list[Any],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["animate", "--model", str(tiny), *argv]) in (1, 2)
    err = capfd.readouterr().err
    assert err.startswith("danqing: ")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_script_that_reads_as_a_form() -> None:
    inputs = animate.parse({"prompt": "0: a cat | 20: a dog", "zoom": "0: (1.02)"}, Session())
    assert (inputs.frames, inputs.border, inputs.needs) == (24, "edge", frozenset({Can.REDRAW}))


def frames_of(folder: Path) -> list[bytes]:
    return [Picture.open(path).image.tobytes() for path in sorted(folder.glob("frame-*"))]


@pytest.mark.parametrize("out", ["film.gif", "film"])
def test_an_interrupted_film_goes_on_with_the_same_frames(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [
        "a cat",
        "--model",
        str(tiny),
        "--frames",
        "4",
        "--steps",
        "4",
        "--strength",
        "0.5",
        "--seed",
        "3",
    ]
    asked += ["--zoom", "1.05"]
    assert cli.run(["animate", *asked, "--out", "whole"]) == 0
    whole = frames_of(Path("whole"))
    add = FrameFolder.add

    def stopped(folder: FrameFolder, k: int, *pictures: Picture) -> None:
        add(folder, k, *pictures)
        if k == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(FrameFolder, "add", stopped)
    capfd.readouterr()
    assert cli.run(["animate", *asked, "--out", out]) == 130
    frames = Path("film.frames" if out == "film.gif" else "film")
    err = capfd.readouterr().err
    go_on = f"danqing animate --settings {frames}/settings.txt --out {out} --resume"
    assert f"2 of 4 frames are in {frames}; {go_on} goes on" in err
    assert frames_of(frames) == whole[:2]
    monkeypatch.setattr(FrameFolder, "add", add)
    assert cli.run(["animate", *asked, "--out", out]) == 2, "frames of a film are not painted over"
    assert cli.run(["animate", *asked, "--angle", "3", "--out", out, "--resume"]) == 2, "another film"
    assert "other settings" in capfd.readouterr().err
    assert cli.run(go_on.split()[1:]) == 0
    if out == "film":
        assert frames_of(frames) == whole
        assert not list(frames.glob("native-*"))
    else:
        assert not frames.exists()
        with Image.open(out) as film:
            assert film.n_frames == 4
