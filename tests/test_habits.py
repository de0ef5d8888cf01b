"""What people type out of habit, what they chose once and for all, and what their shell completes."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.core import TyperGroup
from typer.main import get_command

import danqing
from danqing.apps import names
from danqing.conditioning.parameters import split
from danqing.core.brief import Brief, sides_for_ratio
from danqing.core.card import Can
from danqing.core.picture import Picture
from danqing.diffusion.sampler_names import sampler_name, sampler_titles
from danqing.diffusion.samplers import SAMPLERS
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli.config import SETTINGS, config_path
from danqing.interfaces.cli.habits import (
    COMMANDS,
    GLOBAL,
    IGNORED,
    IP_SCALES,
    OPTIONS,
    PICTURES,
    SIZES,
    rewrite,
)
from danqing.weights.shipped import shipped_models
from tests.command_line import TOY, Ask, python
from tests.toy import CARD, write_card


def commands() -> dict[str, object]:
    return {name: cli._load(name) for name in cli.commands()}


def test_no_habit_is_one_of_our_own_names() -> None:
    """Else a habit of other programs would change what our own words mean."""
    ours = commands()
    assert not COMMANDS.keys() & ours.keys()
    assert set(COMMANDS.values()) <= ours.keys()
    flags: set[str] = set()
    for name, command in ours.items():
        parts = command.commands.values() if isinstance(command, TyperGroup) else [command]
        own = {flag for part in parts for parameter in part.params for flag in parameter.opts}
        assert name not in names() or not {*SIZES} & own
        flags |= own
    assert not (OPTIONS.keys() | IGNORED.keys() | {*PICTURES[1:], *IP_SCALES}) & flags
    assert set(OPTIONS.values()) <= flags
    assert not {flag for flag in flags if "_" in flag}


REWRITTEN = [
    ("txt2img cat --negative_prompt dog --cfg-scale=3", "paint cat --no dog --guidance=3"),
    ("img2img a.png cat --denoising-strength 0.5", "redraw a.png cat --strength 0.5"),
    ("paint cat --device cpu", "--device cpu paint cat"),
    ("paint cat --device=cpu -n 2", "--device=cpu paint cat -n 2"),
    ("paint cat --seed -1 --variation_seed 3", "paint cat --variation-seed 3"),
    ("paint cat --seed=-1", "paint cat"),
    (
        "paint cat --ip-adapter-image a.png --ip-image=b.png:0.3 --ip-scale 0.6",
        "paint cat --ip-image a.png:0.6 --ip-image=b.png:0.3",
    ),
    (
        "paint cat --ip_adapter_scale=.5 --ip-image=b.png --ip-image c.png:1:0-.5",
        "paint cat --ip-image=b.png:.5 --ip-image c.png:1:0-.5",
    ),
    ("paint cat --v 6 --niji --style 3d", "paint cat --style 3d"),
    ("paint --no -- --cfg --device", "paint --no -- --cfg --device"),
    ("paint - --out -", "paint - --out -"),
    ("paint cat --size 512x768 -s 3 -S -1", "paint cat --width 512 --height 768 --steps 3"),
    ("paint cat --size=64 --q 2 --medvram", "paint cat --width 64 --height 64"),
    ("paint --prompt a cat -W 64", "paint a cat --width 64"),
    ("paint cat --init_image a.png", "paint cat --image a.png"),
    ("redraw --prompt cat --init_img=a.png --steps 3", "redraw a.png --steps 3 cat"),
    ("score --text cat -i a.png", "score a.png cat"),
    ("blend a.png b.png --prompt cat", "blend a.png b.png --prompt cat"),
    ("search a --image b.png", "search a --image b.png"),
    ("/imagine prompt: cat", "imagine cat"),
    ("help paint", "paint --help"),
    ("version", "--version"),
    ("data stickers a --size 64", "data stickers a --size 64"),
    ("画 猫", "paint 猫"),
    ("show -p --image", "show -p --image"),
    ("upscale a.png 4x", "upscale a.png --scale 4"),
    ("zoom a.png x1.5 --factor=2", "zoom a.png --by 1.5 --scale=2"),
    ("paint 2x cat", "paint 2x cat"),
    ("models rm toy", "models remove toy"),
    ("config ls", "config list"),
    ("config model gan", "config set model gan"),
    ("config model", "config get model"),
    ("paint 猫 --风格 剪纸", "paint 猫 --style 剪纸"),
    ("", ""),
]


@pytest.mark.parametrize(("typed", "ours"), REWRITTEN)
def test_habits_are_rewritten(typed: str, ours: str) -> None:
    assert rewrite(typed.split()).argv == ours.split()


@given(st.lists(st.text("ab-=_ 1"), max_size=6))
def test_what_is_no_habit_stays(words: list[str]) -> None:
    argv, notes = rewrite(words)
    if not notes and not any("_" in word for word in words):
        assert argv == words


def test_a_file_with_a_dash_in_front_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert rewrite(["show", "-a.png"]).argv == ["show", "-a.png"]
    Path("-a.png").touch()
    assert rewrite(["show", "-a.png"]).argv == ["show", "./-a.png"]


HURRIED = [
    (["a", "red", "apple"], "'a red apple' is no command: danqing paint 'a red apple'"),
    (["models", "foo"], "No such command 'foo'"),
    (["--device", "gpu", "paint", "a"], "unknown device 'gpu': use auto, cpu, cuda"),
    (["search", "nowhere", "a"], "no folder at 'nowhere': check the name"),
    (["search", "."], "say what to look for"),
    (["stylize", "a.png", "--style", "watercolour-ish"], "unknown style 'watercolour-ish'"),
    (["paint", "a", "--model", "toy", "--ar", "16x90"], "ar 16x90 is too long"),
]


@pytest.mark.parametrize(("argv", "says"), HURRIED)
def test_what_people_in_a_hurry_type_is_one_line_before_a_model_is_opened(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, argv: list[str], says: str
) -> None:
    monkeypatch.setattr("danqing.families.open_painter", lambda *_: pytest.fail("a painter was opened"))
    Image.new("RGB", (64, 64)).save("a.png")
    answer = ask(*argv)
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert says in answer.err


def test_config_alone_lists_the_settings(ask: Ask) -> None:
    assert ask("config").out == ask("config", "list").out != ""


@pytest.mark.parametrize("style", ["3D", "3D style", "Paper Cut", "paper_cut Style", "剪纸风格", "立体"])
def test_a_style_however_it_is_written(style: str) -> None:
    brief = Brief.of("a cat", style=style, seed=1).resolve(CARD)
    assert brief.style == ("3d" if style[0] in "3立" else "paper-cut")


@pytest.mark.parametrize("ratio", ["16:9", "16x9", "16×9", "16/9", "16 X 9", "１６：９"])
def test_a_ratio_however_it_is_written(ratio: str) -> None:
    assert sides_for_ratio(ratio, CARD) == sides_for_ratio("16:9", CARD)


def test_a_strength_beside_a_picture_in_front_is_kept(ask: Ask) -> None:
    write_card(Path("toy"), CARD.model_copy(update={"can": CARD.can | {Can.REDRAW}}))
    Image.new("RGB", (32, 32), "red").save("a.png")
    refused = ask("paint", "a.png", "a cat", "--model", "toy", "--strength", "2")
    assert (refused.code, "strength 2 is too large" in refused.err) == (2, True)
    made = ask("paint", "a.png", "a cat", "--model", "toy", "--strength", "0.3", "--out", "b.png")
    assert made.code == 0, made.err
    assert Picture.open("b.png").brief.strength == 0.3


def test_samplers_go_by_their_names_in_a1111() -> None:
    assert sampler_titles() == {name: SAMPLERS[name].title for name in SAMPLERS}
    assert sampler_name("DPM++ 2M Karras") == "dpmpp_2m_karras"
    assert sampler_name("euler A") == "euler_ancestral"
    assert sampler_name("dpmpp_2m") == "dpmpp_2m"
    argv = ["paint", "cat", "--sampler", "DPM++ 2M Karras"]
    assert rewrite(argv).argv[-1] == "dpmpp_2m_karras"


def test_habits_paint_and_are_told(ask: Ask) -> None:
    answer = ask(
        "generate", "a cat --v 6 --style raw", "--model", "toy", "--seed", "-1", "-n", "2", "--cfg", "3"
    )
    assert answer.code == 0, answer.err
    for note in (
        "generate is called paint",
        "--v 6 is Midj",
        "--style raw is Midj",
        "seed -1 is a random",
        "--cfg is",
    ):
        assert note in answer.err
    assert Picture.open(answer.out.split()[0]).brief.guidance == 3
    assert ask("generate", "a", "--model", "toy", "-q").err == ""


def test_midjourneys_own_parameters_do_nothing() -> None:
    words, parameters = split("a fox --v 6.1 --ar 3:2 --niji --style raw")
    assert (words, parameters.ar, parameters.style) == ("a fox", "3:2", None)
    assert len(parameters.notes) == 3


def test_short_and_wrong_beginnings(ask: Ask) -> None:
    assert ask("-V").out == ask("--version").out == f"danqing {danqing.__version__}\n"
    for line in (
        ["-h"],
        ["paint", "-h"],
        ["config", "-h"],
        ["config", "set", "-h"],
        ["data", "filter", "-h"],
    ):
        assert "Usage:" in ask(*line).out
    refused = ask("a red apple, 3d style")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "danqing paint 'a red apple, 3d style'" in refused.err
    assert "Exit codes: 0 done" in ask("-h").out


def test_settings_are_below_what_a_command_says(ask: Ask) -> None:
    assert ask("config", "get", "model").out == ""
    assert ask("config", "set", "model", "toy").err == ""
    assert ask("config", "set", "style", "paper-cut").code == 0
    assert ask("config", "get", "model").out == "toy\n"
    painted = Picture.open(ask("paint", "a cat").out.strip()).brief
    assert (painted.model, painted.style) == ("toy", "paper-cut")
    assert Picture.open(ask("paint", "a cat --style 3d").out.strip()).brief.style == "3d"
    write_card(Path("other"), CARD.model_copy(update={"styles": {}}))
    other = Picture.open(ask("paint", "a cat", "--model", "other").out.strip()).brief
    assert (other.model, other.style) == ("other", None)
    assert "paper-cut" in ask("config", "list").out
    assert ask("config", "unset", "style").code == 0
    assert Picture.open(ask("paint", "a cat").out.strip()).brief.style is None
    assert config_path().read_text() == 'model = "toy"\n'
    assert ask("config", "path").out == f"{config_path()}\n"


def test_the_folder_and_the_format_of_the_settings(ask: Ask) -> None:
    ask("config", "set", "folder", "my pictures")
    ask("config", "set", "format", "jpg")
    assert ask("paint", "a cat", "--model", "toy", "--seed", "1").out == "my pictures/a-cat-1.jpg\n"
    clear = ask("paint", "a cat", "--model", "toy", "--seed", "2", "--background", "transparent")
    assert clear.out == "my pictures/a-cat-2.png\n"
    assert ask("paint", "a cat", "--model", "toy", "--out", "b.png").out == "b.png\n"


def test_what_was_made_is_opened(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", lambda place: opened.append(place) or 0)
    assert ask("paint", "a cat", "--model", "toy", "--seed", "1", "--count", "2", "--open").code == 0
    assert opened == [str(Path("paintings/a-cat-1-grid.png").resolve())]
    monkeypatch.setattr("typer.launch", lambda _: 1)
    assert "--open finds no viewer" in ask("paint", "a cat", "--model", "toy", "--open").err


def test_a_preview_needs_a_terminal(ask: Ask) -> None:
    answer = ask("paint", "a cat", "--model", "toy", "--preview")
    assert answer.code == 0
    assert "--preview shows nothing here" in answer.err


def test_a_preview_in_half_blocks(tmp_path: Path) -> None:
    """On a terminal without graphics each line shows two rows of pixels; the paths stay in the pipe."""
    write_card(tmp_path / "toy")
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 40, 480, 320))
    code = f"import os; os.environ['COLUMNS'] = '40'\n{TOY}"
    argv = ["paint", "a", "--model", "toy", "--seed", "1", "--preview", "--quiet"]
    command = [*python(code, TERM="xterm-256color", COLORTERM="truecolor"), *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, cwd=tmp_path) as process:
        os.close(follower)
        shown = ""
        with suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(leader, 4096):
                shown += part.decode(errors="replace")
        out, _ = process.communicate(timeout=120)
    os.close(leader)
    assert (process.returncode, out) == (0, b"paintings/a-1.png\n"), shown
    assert "▀" in shown or "▄" in shown
    assert "\x1b[38;2;" in shown


def test_a_picture_goes_on_with_the_model_that_painted_it(ask: Ask) -> None:
    ask("paint", "a cat", "--model", "toy", "--out", "a.png")
    write_card(Path("other"))
    ask("config", "set", "model", "other")
    made = ask("upscale", "a.png", "--out", "b.png")
    assert made.code == 0, made.err
    assert Picture.open("b.png").brief.model == "toy"


WRONG = [
    ("set modle x", "unknown setting 'modle': did you mean 'model'?", 2),
    ("get x", "unknown setting 'x'", 2),
    ("unset x", "unknown setting 'x'", 2),
    ("set format gif", "setting format 'gif' is not understood: use one of png, webp, jpg", 2),
    ("set model nowhere", "unknown model 'nowhere'", 2),
    ("set folder toy/card.json", "'toy/card.json' is a file: name a folder", 1),
    ("set model", "Missing argument", 2),
]


@pytest.mark.parametrize(("line", "says", "code"), WRONG)
def test_wrong_settings_are_one_line(ask: Ask, line: str, says: str, code: int) -> None:
    answer = ask("config", *line.split())
    assert (answer.code, answer.err.count("\n")) == (code, 1)
    assert says in answer.err
    assert not config_path().exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"model = ", "cannot be read: Invalid value"),
        (b"\xff", "cannot be read: 'utf-8' codec"),
        (b"modle = 'x'", "unknown setting 'modle'"),
        (b"model = 3", "setting model '3'"),
    ],
)
def test_damaged_settings_are_one_line_and_help_needs_none(ask: Ask, text: bytes, says: str) -> None:
    config_path().parent.mkdir()
    config_path().write_bytes(text)
    answer = ask("paint", "a cat", "--model", "toy")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert says in answer.err
    assert str(config_path()) in answer.err
    assert ask("--help").code == 0


COMPLETED = [
    ("danqing pai", "paint"),
    ("danqing paint cat --samp", "--sampler"),
    ("danqing paint cat --sampler dpmpp_2m_s", "dpmpp_2m_sde\ndpmpp_2m_sde_karras"),
    ("danqing paint cat --style paper", "paper-cut"),
    ("danqing vary a.png --how s", "subtle\nstrong"),
    ("danqing paint cat --adapter my-", "my-cat"),
    ("danqing paint cat --adapter ink,my-", "ink,my-cat"),
    ("danqing config set lang", "language"),
    ("danqing lineage cat --sing", "--singles"),
]


@pytest.mark.parametrize(("line", "offered"), COMPLETED)
def test_bash_completes(tmp_path: Path, line: str, offered: str) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "my-cat.safetensors").touch()
    code = (
        "import sys; from danqing.interfaces.cli.main import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules\n"
    )
    words = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
        "_DANQING_COMPLETE": "complete_bash",
    }
    paths = str(Path(danqing.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **words, "PYTHONPATH": paths},
        capture_output=True, cwd=tmp_path, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() == offered


def test_models_are_completed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from danqing.interfaces.cli.completion import models

    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert models() == [*shipped_models(), "mine"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_there_is_a_script_for_each_shell(
    shell: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    with pytest.raises(SystemExit):
        get_command(cli._app()).main(["--show-completion", shell], prog_name="danqing", standalone_mode=False)
    assert "_DANQING_COMPLETE" in capfd.readouterr().out


def test_global_options_are_those_of_the_program() -> None:
    flags = {flag for parameter in get_command(cli._app()).params for flag in parameter.opts}
    assert set(GLOBAL) <= flags | {"--lang"}
    known = {"model", "style", "format", "folder", "language", "device", "dtype", "backend", "server"}
    assert set(SETTINGS) == known
