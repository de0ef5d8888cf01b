"""The real command line: what it paints, where, and how it refuses."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import danqing
from danqing.apps.paint import paint as app
from danqing.conditioning.parameters import MAPPING_VERSION, Parameters, split
from danqing.core.brief import Brief
from danqing.core.errors import BadWeights
from danqing.core.picture import Picture
from danqing.families import open_painter as open_by_name
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli import progress
from danqing.interfaces.cli.options import command_line
from danqing.interfaces.cli.output_files import slug
from tests.command_line import TOY, Ask, paint, pictures, python
from tests.toy import CARD, Toy, write_card


def test_a_picture_is_painted_named_and_told(ask: Ask) -> None:
    answer = paint(ask, "一只红色的小熊猫, 3D!", "--seed", "7")
    assert answer.code == 0
    assert answer.out == "paintings/一只红色的小熊猫-3d-7.png\n"
    assert "seed 7" in answer.err
    brief = Picture.open("paintings/一只红色的小熊猫-3d-7.png").brief
    assert (brief.prompt, brief.seed, brief.model) == ("一只红色的小熊猫, 3D!", 7, "toy")


def test_several_pictures_come_with_a_sheet_and_nothing_is_overwritten(ask: Ask) -> None:
    first = paint(ask, "a", "cat", "--seed", "7", "--count", "2").out.split()
    assert first == [f"paintings/a-cat-{end}.png" for end in ("7", "8", "7-grid")]
    assert Picture.open(first[2]).image.size == (66, 32)
    second = paint(ask, "a cat", "--seed", "7", "--count", "2").out.split()
    assert second == [f"paintings/a-cat-{end}.png" for end in ("7-2", "8-2", "7-grid-2")]
    assert [Picture.open(path).brief.seed for path in second[:2]] == [7, 8]
    assert Picture.open(first[2]).brief.count == 2


@pytest.mark.parametrize(
    ("out", "count", "files"),
    [
        ("new/folder/", 1, ["new/folder/a-cat-7.png"]),
        ("there", 1, ["there/a-cat-7.png"]),
        ("a/b.webp", 1, ["a/b.webp"]),
        ("b.jpg", 1, ["b.jpg"]),
        ("a.b.PNG", 2, ["a.b-7.PNG", "a.b-8.PNG", "a.b.PNG"]),
    ],
)
def test_out_is_honoured(ask: Ask, out: str, count: int, files: list[str]) -> None:
    Path("there").mkdir()
    assert paint(ask, "a cat", "--seed", "7", "--count", str(count), "--out", out).out.split() == files
    assert pictures() == sorted(files)


def test_a_ratio_keeps_the_area_and_tells_its_rounding(ask: Ask) -> None:
    answer = paint(ask, "a cat", "--ar", "4:1", "--out", "a.png")
    assert "ar 4:1 -> 64x16" in answer.err
    assert Picture.open("a.png").image.size == (64, 16)


@pytest.mark.parametrize(
    ("guidance", "notice"),
    [("1", "--no has no effect at guidance 1"), ("0.5", "towards the words of --no, not away"), ("1.5", "")],
)
def test_a_negative_prompt_without_effect_is_told(ask: Ask, guidance: str, notice: str) -> None:
    answer = paint(ask, "a cat", "--no", "dog", "--guidance", guidance)
    assert answer.code == 0
    assert notice in answer.err
    assert ("--no" in answer.err) == bool(notice)
    assert "--no" not in paint(ask, "a cat", "--guidance", guidance).err


def test_parameters_may_stand_in_the_prompt(ask: Ask) -> None:
    answer = paint(ask, "a fox —ar 4:1 --no people, text --seed 7 --c 5 --q 2 --tile", "--out", "a.png")
    assert answer.code == 0, answer.err
    assert "ar 4:1 -> 64x16" in answer.err
    picture = Picture.open("a.png")
    brief = picture.brief
    assert (brief.prompt, brief.negative_prompt, brief.seed) == ("a fox", "people, text", 7)
    assert (brief.width, brief.height, brief.steps, brief.chaos, brief.tile) == (64, 16, 6, 5, True)
    assert picture.info.mapping == MAPPING_VERSION


def test_an_option_goes_before_a_parameter_and_doubles_are_told(ask: Ask) -> None:
    answer = paint(
        ask, "a fox --seed 1 --seed 2 --ar 2:1 --iw 1", "--seed", "9", "--ar", "4:1", "--out", "a.png"
    )
    assert "--seed is given more than once" in answer.err
    assert "--iw has no effect without a picture" in answer.err
    brief = Picture.open("a.png").brief
    assert (brief.seed, brief.width, brief.height) == (9, 64, 16)


def test_wildcards_choose_and_show_tells_what(ask: Ask) -> None:
    answer = paint(ask, "a {red|blue} fox --repeat 6", "--seed", "1", "--out", "x/")
    files = answer.out.split()
    assert len(files) == 7
    chosen = {Picture.open(file).info.chosen for file in files[:6]}
    assert chosen == {"a red fox", "a blue fox"}
    shown = ask("show", files[0]).out
    assert "chosen" in shown
    command = shlex.split(shown.splitlines()[-1])
    assert command[-1] == "a {red|blue} fox"
    assert ask(*command[1:], "--out", "b.png").code == 0
    assert Picture.open("b.png").image.tobytes() == Picture.open(files[0]).image.tobytes()


def test_a_prompt_with_dashes_survives_its_command_line(ask: Ask) -> None:
    paint(ask, r"a \--tile fox", "--seed", "1", "--out", "a.png", "--stylize", "7")
    assert Picture.open("a.png").brief.prompt == "a --tile fox"
    command = shlex.split(ask("show", "a.png").out.splitlines()[-1])
    assert ask(*command[1:], "--out", "b.png").code == 0
    assert Picture.open("b.png").brief == Picture.open("a.png").brief
    assert Picture.open("b.png").brief.stylize == 7


def test_the_bar_counts_steps_over_all_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(progress.Console, "is_terminal", True)
    monkeypatch.setattr(
        progress.Bar,
        "update",
        lambda *_, total=None, completed=None, **__: shown.append((completed, total)) if total else None,
    )
    with progress.show_progress("toy", "3 pictures") as watch:
        app("a cat", painter=Toy(), count=3, steps=2, progress=watch)
    assert shown == [(step, 6) for step in range(1, 7)]


def test_a_copy_without_models_says_so(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danqing.families._open.shipped_models", dict)
    monkeypatch.setattr("danqing.interfaces.cli.models.shipped_models", dict)
    monkeypatch.setattr("danqing.apps._session.shipped_models", dict)
    monkeypatch.setattr("danqing.weights.shipped.shipped_models", dict)  # last: the others import it
    told = "unknown model 'stickers': none came with this copy, so give a folder of weights or a .safetensors"
    told += " file"
    assert ask("paint", "a cat").err == f"danqing: {told}\n"
    with pytest.raises(BadWeights, match=told):
        open_by_name("stickers")
    assert "no models are shipped" in ask("models").out


def test_words_that_did_not_fit_are_told(ask: Ask) -> None:
    assert "not painted: nine ten" in paint(ask, "1 2 3 4 5 6 7 8 nine ten").err


BAD = [
    ("paint", "Missing argument"),
    ("paint ''", "prompt is empty"),
    ("paint cat --model toy --steps 0", "steps 0 is too small: use 1 or more"),
    ("paint cat --model toy --steps 1001", "steps 1001 is too large"),
    ("paint cat --model toy --steps abc", "steps 'abc' is not a whole number"),
    ("paint cat --model toy --steps", "--steps"),
    ("paint cat --model toy --guidance nan", "guidance nan is not a finite number"),
    ("paint cat --model toy --guidance inf", "guidance inf"),
    ("paint cat --model toy --guidance -1", "guidance -1 is too small"),
    ("paint cat --model toy --rescale 2", "rescale 2 is too large"),
    ("paint cat --model toy --seed -2", "leave it out for a random one"),
    ("paint cat --model toy --seed 4294967296", "seed 4294967296"),
    ("paint cat --model toy --seed 1e3", "seed '1e3' is not a whole number"),
    ("paint cat --model toy --count 0", "count 0"),
    ("paint cat --model toy --count 65", "count 65"),
    ("paint cat --model toy --width 40", "use 32 or 48"),
    ("paint cat --model toy --width 99999999999999999999", "width"),
    ("paint cat --model toy --ar 3by2", "ar '3by2' is not W:H"),
    ("paint cat --model toy --ar 9:1", "between 1:4 and 4:1"),
    ("paint cat --model toy --ar 3:2 --width 32", "give one of them"),
    ("paint cat --model toy --style 3dd", "unknown style '3dd': did you mean '3d'?"),
    ("paint cat --model toy --background red", "transparent, white or #rrggbb"),
    ("paint cat --model toy --sampler eulr", "unknown sampler 'eulr': did you mean 'euler'?"),
    ("paint cat --model nowhere", "unknown model 'nowhere'"),
    ("paint 'cat --ar16:9' --model toy", "put a space after --ar"),
    ("paint 'cat --ar 3:2 dog' --model toy", "'dog' stands behind --ar"),
    ("paint 'cat --stlye 3d' --model toy", "unknown parameter '--stlye': did you mean '--style'?"),
    ("paint 'cat --seed x' --model toy", "--seed 'x' is not understood"),
    ("paint 'cat --chaos 101' --model toy", "chaos 101 is too large"),
    ("paint 'cat --ar 3:2' --width 32 --model toy", "give one of them"),
    ("paint 'cat --seed 1 --q 3' --model toy", "one of 0.25, 0.5, 1, 2, 4"),
    ("paint 'cat::1 dog::-1' --model toy", "make the sum more than 0"),
    ("paint ' --tile' --model toy", "prompt is empty"),
    ("paint cat --chaos 1.5 --model toy", "chaos '1.5' is not a whole number"),
    ("paint cat --model toy --stpes 3", "--steps"),
    ("paint cat --model toy --out a.gif", "end the name with .png"),
    ("paint cat --model toy --out a.jpg --background transparent", "JPEG has no transparency"),
    ("pant cat", "'paint'"),
    ("--nonsense", "--nonsense"),
    ("show", "Missing argument"),
]
BROKEN = [
    ("paint nan --model toy", "NaN or infinite"),
    ("paint cat --model toy --out file/a.png", "cannot write 'file/a.png'"),
    (f"paint cat --model toy --out {'long' * 70}.png", "cannot write"),
    ("paint cat --model torn", "is not a model's card"),
    ("show missing.png", "no picture at 'missing.png'"),
    ("show file", "is empty"),
    ("show plain.png", "holds no danqing brief"),
]


@pytest.mark.parametrize(
    ("line", "says", "code"),
    [(*case, 2) for case in BAD] + [(*case, 1) for case in BROKEN],
    ids=lambda value: str(value)[:50],
)
def test_a_bad_request_ends_in_one_line(ask: Ask, line: str, says: str, code: int) -> None:
    Path("file").touch()
    Path("empty").mkdir()
    write_card(Path("torn")).joinpath("card.json").write_text('{"name"')
    Image.new("RGB", (4, 4)).save("plain.png")
    answer = ask(*shlex.split(line))
    told = [row for row in answer.err.splitlines() if not row.startswith("painting ")]
    assert answer.code == code
    assert len(told) == 1
    assert says in told[0]
    assert told[0].startswith("danqing: ")
    assert len(told[0]) < 400
    assert answer.out == ""
    assert pictures() == ["plain.png"], "nothing is left behind"
    assert not Path("paintings").exists()


def test_a_place_that_cannot_be_written_is_found_before_painting(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danqing.families.open_painter", lambda *_: pytest.fail("a painter was opened"))
    Path("file").touch()
    assert paint(ask, "a cat", "--out", "file/x/").code == 1


def test_show_tells_how_and_its_command_repaints(ask: Ask) -> None:
    words = "a 'quoted' cat, $HOME [b]bold[/b] 猫"
    paint(ask, words, "--no", "-dog", "--seed", "7", "--background", "transparent", "--out", "a.png")
    shown = ask("show", "a.png")
    assert shown.code == 0
    assert "[b]bold[/b]" in shown.out.replace("\n", " ")
    command = shlex.split(shown.out.splitlines()[-1])
    assert command[0] == "danqing"
    assert ask(*command[1:], "--out", "b.png").code == 0
    one, two = Picture.open("a.png"), Picture.open("b.png")
    assert one.brief == two.brief
    assert one.image.tobytes() == two.image.tobytes()


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(str.strip),
    st.sampled_from(["", "-x", "--seed", "a, b"]),
    st.booleans(),
)
@example("--A", "--seed", True)
@example("\uff0d\uff0dA", "", False)
@example("\u2014\u2014A", "-x", False)
def test_a_brief_survives_its_command_line(prompt: str, negative: str, native: bool) -> None:
    brief = Brief.of(prompt.strip(), negative_prompt=negative, native=native, seed=3).resolve(CARD)
    words = shlex.split(command_line(brief))
    command = cli._load("paint")
    found = command.make_context("paint", words[2:]).params
    names = Brief.model_fields.keys() - {"prompt"}
    ours = {name: value for name, value in found.items() if value is not None and name in names}
    text, parameters = split(" ".join(found["prompt"]))
    assert parameters == Parameters()
    assert Brief.of(text, **ours).complete() == brief


def test_show_prints_no_escape_sequence_of_a_stranger(ask: Ask) -> None:
    paint(ask, "a cat", "--seed", "7", "--out", "a.png")
    picture = Picture.open("a.png")
    info = picture.info.model_copy(update={"dropped": "\x1b]0;owned\x07", "app": "[red]x"})
    Picture(picture.image, picture.brief, info).save("b.png")
    shown = ask("show", "b.png").out
    assert "\x1b]" not in shown
    assert "[red]x" in shown


def test_models_reads_cards_only(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danqing.interfaces.cli.models.shipped_models", lambda: {"toy": Path("toy")})
    listed = ask("models").out
    for fact in (
        "toy",
        "discs of one colour",
        "32x32",
        "paper-cut",
        "Apache-2.0",
        "alpha",
    ):
        assert fact in listed


def test_models_lists_the_things_that_one_has_learned(ask: Ask) -> None:
    answer = ask("models", "--words", "stickers")
    assert answer.err == ""
    listed = answer.out.splitlines()
    assert len(listed) == 120
    assert "dog 狗" in listed
    refused = ask("models", "--words", "gan")
    assert refused.code != 0
    assert "--words gan: there is no list of what it has learned; there is of stickers" in refused.err


@pytest.mark.parametrize(
    "argv", [(), ("--help",), ("paint", "--help"), ("show", "--help"), ("models", "--help")]
)
def test_help_teaches_by_example(ask: Ask, argv: tuple[str, ...]) -> None:
    answer = ask(*argv)
    assert answer.code == 0
    examples = ("danqing paint", "danqing show paintings/", "danqing models")
    assert any(example in answer.out for example in examples)


def test_a_folder_without_a_card_is_opened_to_know_it(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("foreign").mkdir()
    monkeypatch.setattr("danqing.families.open_painter", lambda *_: Toy())
    assert ask("paint", "a cat", "--model", "foreign", "--out", "a.png").code == 0
    assert Picture.open("a.png").brief.model == "foreign", "what repaints it, not what the card says"


toys = typer.Typer(help="Toys.")


@toys.command()
def play(times: int) -> None:
    """Play."""
    print("play " * times)


@toys.command()
def rest() -> None:
    """Rest."""


def test_a_command_may_have_sub_commands(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.OTHER_COMMANDS, "toys", cli.Entry("tests.test_cli:toys", "Play with toys."))
    assert "Play with toys." in ask("--help").out
    assert ask("toys", "play", "2").out == "play play \n"
    assert ask("toys", "play", "x").code == 2
    assert ask("toys").err == "danqing: Missing command. (see danqing toys --help)\n"


def test_slugs() -> None:
    assert slug("A Red-Panda, 3d style!") == "a-red-panda-3d-style"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("🐼!?") == "painting"
    assert slug("猫" * 100) == "猫" * 48


def test_help_and_models_import_no_torch() -> None:
    lines = ["--help", "--version", "models", "paint --help", "paint x --seed y", "paint x --model y"]
    code = (
        "import sys; from danqing.interfaces.cli.main import run\n"
        f"for line in {lines}:\n"
        "    run(line.split()); assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), line\n"
        "    assert line != '--version' or 'pydantic' not in sys.modules\n"
    )
    done = subprocess.run(python(code), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"danqing {danqing.__version__}\n" in done.stdout


def test_a_warning_is_one_line_without_code() -> None:
    code = (
        "import warnings; from danqing.interfaces.cli import main\n"
        "main.run = lambda argv: warnings.warn('look\\nhere', RuntimeWarning)\n"
        "main.main()\n"
    )
    done = subprocess.run(python(code), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "danqing: look here\n")


def test_ctrl_c_leaves_a_clean_terminal_and_no_file(tmp_path: Path) -> None:
    write_card(tmp_path / "toy")
    leader, follower = pty.openpty()  # a real terminal, so that the bar is drawn
    command = [
        *python(TOY, TOY_SECONDS="0.05", TERM="xterm"),
        "paint",
        "一只猫",
        "--model",
        "toy",
        "--steps",
        "900",
    ]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path) as process:
        os.close(follower)
        seen, deadline = b"", time.monotonic() + 60
        while b"/900" not in seen and time.monotonic() < deadline:
            seen += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    try:
        while chunk := os.read(leader, 4096):
            seen += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(leader)
    text = seen.decode()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "the cursor is back"
    assert text.rstrip().endswith("danqing: cancelled")
    assert "Traceback" not in text
    assert [path.name for path in tmp_path.rglob("*")] == ["toy", "card.json"]
