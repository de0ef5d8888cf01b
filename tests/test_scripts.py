"""What scripts rely on: results on stdout and nothing else, JSON, standard input and output, exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from danqing.core.picture import Picture
from danqing.core.progress import Progress
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli import progress as progress_module
from danqing.interfaces.cli.patient_stream import patient_stream
from tests.command_line import TOY, Answer, Ask, python
from tests.toy import open_painter, write_card


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, with the toy model in ./toy."""
    write_card(tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("danqing.families.open_painter", open_painter)


@pytest.fixture
def ask(toy: None, capfd: pytest.CaptureFixture[str]) -> Ask:  # noqa: ARG001
    """The command line in that folder, with that model."""

    def run(*argv: str) -> Answer:
        code = cli.run([argv[0], "--model", "toy", *argv[1:]])
        return Answer(code, *capfd.readouterr())

    return run


def test_json_has_one_object_for_each_picture(ask: Ask) -> None:
    answer = ask("paint", "1 2 3 4 5 6 7 8 nine", "--seed", "3", "--count", "2", "--ar", "2:1", "--json")
    first, second, grid = map(json.loads, answer.out.splitlines())
    assert set(first) == {"path", "seed", "width", "height", "seconds", "model", "grid", "warnings"}
    assert (first["seed"], second["seed"], grid["seed"]) == (3, 4, 3)
    assert (first["width"], first["height"], first["model"]) == (32, 16, "toy")
    assert [line["grid"] for line in (first, second, grid)] == [False, False, True]
    assert Picture.open(second["path"]).brief.seed == 4
    ratio, dropped = first["warnings"]
    assert "ar 2:1 -> 32x16" in ratio
    assert dropped.endswith("nine")
    assert answer.err.count("nine") == 1


def test_quiet_says_nothing_but_paths_and_errors(ask: Ask) -> None:
    answer = ask("paint", "a cat", "--seed", "3", "--count", "2", "--no", "dog", "--guidance", "1", "-q")
    assert answer.err == ""
    assert len(answer.out.splitlines()) == 3
    assert ask("paint", "a cat", "-q", "--steps", "0").err.startswith("danqing: steps 0")


def test_a_grid_under_a_name_of_ones_own_is_marked(ask: Ask) -> None:
    answer = ask("paint", "a cat", "--seed", "3", "--count", "2", "--out", "a.png")
    assert answer.out.split() == ["a-3.png", "a-4.png", "a.png"]
    assert "a.png is the grid" in answer.err


def test_progress_without_a_terminal_is_some_lines(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress_module, "monotonic", lambda: now)
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 10)
    with progress_module.show_progress("toy", "painting") as report:
        for step in range(100):
            now = float(step)
            report(Progress(step, 100))
    lines = capfd.readouterr().err.splitlines()
    assert lines[:2] == ["painting", "painting: 10 of 100, 90 s left"]
    assert len(lines) == 10


def test_the_time_that_opening_takes_is_no_step(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress_module, "monotonic", lambda: now)
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 10)
    with progress_module.show_progress("toy", "painting") as report:
        report(Progress(note="4 steps need about 40 s"))
        for step, now in ((1, 100.0), (2, 112.0)):  # noqa: B007
            report(Progress(step, 4))
    expected = ["painting", "4 steps need about 40 s", "painting: 1 of 4", "painting: 2 of 4, 24 s left"]
    assert capfd.readouterr().err.splitlines() == expected


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Puts bytes on standard input."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return put


def test_a_prompt_comes_from_standard_input(ask: Ask, send: Callable[[bytes], None]) -> None:
    send("\ufeffa 猫\n --seed 4\n".encode())
    assert ask("paint", "-").out == "paintings/a-猫-4.png\n"
    send(b"\xff\xfe")
    assert "standard input is not text" in ask("paint", "-").err
    send(b"")
    assert "prompt is empty" in ask("paint", "-").err


@pytest.mark.usefixtures("toy")
def test_a_picture_goes_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.run(["paint", "a cat", "--model", "toy", "--seed", "4", "--out", "-"]) == 0
    picture = Image.open(io.BytesIO(capfdbinary.readouterr().out))
    assert picture.size == (32, 32)
    assert "danqing" in picture.info
    assert not Path("paintings").exists()
    assert cli.run(["imagine", "a cat", "--model", "toy", "--out", "-"]) == 0
    assert Image.open(io.BytesIO(capfdbinary.readouterr().out)).size == (66, 66)
    for extra in ("--count=2", "--json"):
        assert cli.run(["paint", "a cat", "--model", "toy", "--out", "-", extra]) == 2
        assert b"--out - " in capfdbinary.readouterr().err


def test_prompts_come_from_a_file_and_the_model_is_opened_once(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr("danqing.families.open_painter", lambda *a: opened.append(a) or open_painter(*a))
    Path("prompts.txt").write_text("# a comment\na cat --seed 4\n\n一只狗 --seed 5\n", encoding="utf-8")
    answer = ask("paint", "--from-file", "prompts.txt")
    assert answer.out == lines("paintings/a-cat-4.png", "paintings/一只狗-5.png"), answer.err
    assert len(opened) == 1
    record = {"prompt": "a cat", "seed": 9, "negative-prompt": "dog", "out": "mine.webp"}
    Path("prompts.jsonl").write_text(f'{json.dumps(record)}\n{{"prompt": "b"}}\n')
    answer = ask("paint", "--from-file", "prompts.jsonl", "--seed", "3", "--json")
    assert [json.loads(row)["path"] for row in answer.out.splitlines()] == ["mine.webp", "paintings/b-3.png"]
    assert Picture.open("mine.webp").brief.negative_prompt == "dog"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "# only\n", "a.txt holds no prompts"),
        ("a.txt", "a cat\na cat --steps 0", "a.txt line 2: steps 0 is too small"),
        ("a.jsonl", '{"prompt": "a"}\n[1]', "a.jsonl line 2: '[1]' is not a JSON object"),
        ("a.jsonl", '{"promt": "a"}', "unknown field 'promt': did you mean 'prompt'?"),
        ("a.jsonl", '{"seed": 3}', "a.jsonl line 1: Missing argument 'PROMPT...'"),
        ("a.jsonl", '{"prompt": 3}', "line 1: prompt 3 is not text"),
        ("a.jsonl", '{"prompt": "a", "out": 3}', "out 3 is not a place"),
        ("b.txt", "", "'a.txt' cannot be read: No such file"),
    ],
)
def test_a_wrong_line_stops_all_before_the_first_picture(ask: Ask, name: str, text: str, said: str) -> None:
    Path(name).write_text(text)
    answer = ask("paint", "--from-file", name.replace("b.txt", "a.txt"))
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not Path("paintings").exists()


FULL = [("models", 1), ("paint a --model toy --seed 1", 1), ("--help", 1), ("paint --help", 1)]


@pytest.mark.parametrize(("line", "code"), FULL)
def test_a_full_stdout_is_one_line_and_the_picture_is_there(tmp_path: Path, line: str, code: int) -> None:
    write_card(tmp_path / "toy")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*python(TOY), *line.split()],
            stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, text=True, timeout=60, check=False,
        )  # fmt: skip
    said = [row for row in done.stderr.splitlines() if row.startswith("danqing: ")]
    assert done.returncode == code
    assert said == ["danqing: cannot write to standard output: No space left on device"]
    assert "Traceback" not in done.stderr
    assert ("paint a" in line) == (tmp_path / "paintings" / "a-1.png").exists()


def test_a_closed_pipe_stops_nothing(tmp_path: Path) -> None:
    write_card(tmp_path / "toy")
    command = [*python(TOY), "paint", "a", "--model", "toy", "--seed", "1", "--count", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(60) == 0
    assert len(list((tmp_path / "paintings").iterdir())) == 4


def test_a_patient_stream_passes_everything_on(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w", encoding="ascii") as file:
        stream, raw = patient_stream(file)
        assert raw is not None
        print("猫 a", file=stream, flush=True)
        assert (stream.fileno(), stream.isatty()) == (file.fileno(), False)
    assert (tmp_path / "a").read_text() == "\\u732b a\n"
    assert raw.error is None
    assert patient_stream(None) == (None, None)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"COLUMNS": "20"}])
@pytest.mark.parametrize("line", ["--help", "models", "paint --help"])
def test_plain_terminals_are_respected(tmp_path: Path, environment: dict[str, str], line: str) -> None:
    done = subprocess.run(
        [*python("from danqing.interfaces.cli.main import main; main()", **environment), *line.split()],
        capture_output=True, cwd=tmp_path, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b[3" not in done.stdout
    if "COLUMNS" in environment and "--help" in line:
        assert max(map(len, done.stdout.splitlines())) <= 20
