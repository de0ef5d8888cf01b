"""Every command with every fault: one line, the right exit code, no traceback, nothing left behind, and soon.

The commands and their arguments are made from the registry, so that a new app is tested here, too. All
warnings are errors, as everywhere in these tests.
"""

from __future__ import annotations

import io
import os
import resource
import stat
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.core import TyperGroup

from danqing.apps import find_app, names
from danqing.core.field_groups import ModelChoice
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli.options import argument_names, flag, is_image, is_list, words_behind_list
from tests.command_line import Answer, Ask
from tests.toy import CARD, Toy, write_card

SECONDS = 1.0  # of this process in which a fault is told that needs no model


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG that claims a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def noise() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def unreadable(path: Path) -> None:
    path.write_bytes(noise())
    path.chmod(0)


FAULTS: dict[str, Callable[[Path], object]] = {
    "zero bytes": lambda path: path.touch(),
    "text": lambda path: path.write_text("no picture\n" * 99),
    "a folder": lambda path: path.mkdir(),
    "missing": lambda path: None,  # noqa: ARG005
    "cut short": lambda path: path.write_bytes(noise()[:2000]),
    "huge": lambda path: path.write_bytes(png(60000, 60000, zlib.compress(b"\0" * 1000))),
    "unreadable": unreadable,
    "a loop": lambda path: path.symlink_to(path.name),
    "tiny": lambda path: path.write_bytes(png(1, 1, zlib.compress(b"\0\0\0\0"))),
}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions hold for everybody but root, under whom tests may run."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(scope="module", autouse=True)
def everything_imported() -> None:
    """What commands import when they are called, so that it is not what is timed."""
    import danqing.apps._job
    import danqing.apps._zero_shot  # noqa: F401

    for name in cli.commands():
        cli._load(name)
    "".encode("utf-8-sig")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may read, with a toy model and pictures; to open the model fails the test."""
    folder = tempfile.TemporaryDirectory(prefix="danqing-faults-", ignore_cleanup_errors=True)
    tmp_path = Path(folder.name)
    tmp_path.chmod(0o755)
    skills = CARD.model_copy(update={"can": frozenset(type(next(iter(CARD.can))))})
    write_card(tmp_path / "toy", skills)
    for name in ("good.png", "good2.png"):
        (tmp_path / name).write_bytes(noise())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DANQING_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr("danqing.families.open_painter", lambda *_: pytest.fail("a painter was opened"))
    yield tmp_path
    monkeypatch.chdir("/")
    folder.cleanup()


@pytest.fixture
def ask(here: Path, capfd: pytest.CaptureFixture[str]) -> Ask:  # noqa: ARG001
    """The command line there, without the rights of root."""

    def run(*argv: str) -> Answer:
        with as_nobody():
            code = cli.run(argv)
        return Answer(code, *capfd.readouterr())

    return run


def arguments(app: str, picture: str, *, with_options: bool = True) -> list[str]:
    """A command that starts from a picture."""
    inputs = find_app(app).inputs
    values = {"to": "left", "name": "zed", "prompt": "a fox", "words": "a fox"}
    words: list[str] = []
    for name in (*argument_names(inputs), *words_behind_list(inputs)):
        if is_list(inputs, name) or is_image(inputs, name):
            words.append(picture)
        elif name in values:
            words.append(values[name])
    more = {"inpaint": ["--mask", "good.png"], "outpaint": ["--right", "0.5"], "stylize": ["--style", "3d"]}
    model = ["--model", "toy"] if issubclass(inputs, ModelChoice) else []
    return [app, *words, *(more.get(app, []) if with_options else []), *model]


def starts_from_a_picture(app: str) -> bool:
    inputs = find_app(app).inputs
    return any(is_image(inputs, name) for name in argument_names(inputs))


def pictures_by_option() -> list[tuple[str, str]]:
    """Apps and their options that take a picture."""
    return [
        (app, field)
        for app in names()
        for field in find_app(app).inputs.model_fields
        if is_image(find_app(app).inputs, field) and field not in find_app(app).inputs.positional
    ]


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def check(answer: Answer) -> None:
    """One line says why, behind notes about the inputs."""
    lines = answer.err.splitlines()
    assert answer.code in (1, 2), answer
    assert "Traceback" not in answer.err
    assert [line.startswith("danqing: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("danqing: ")
    assert max(map(len, lines)) < 400
    assert answer.out == ""


REPORTING = ("classify", "score", "search")  # which go on to the next picture


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "app", [app for app in names() if starts_from_a_picture(app) and app not in REPORTING]
)
def test_a_bad_picture_is_one_line(ask: Callable[..., Any], app: str, fault: str) -> None:
    FAULTS[fault](Path("bad.png"))
    before, start = files(), time.process_time()
    answer = ask(*arguments(app, "bad.png"))
    assert time.process_time() - start < SECONDS
    check(answer)
    assert "bad.png" in answer.err
    assert files() == before


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("app", "field"), pictures_by_option())
def test_a_bad_picture_of_an_option_is_one_line(ask: Ask, app: str, field: str, fault: str) -> None:
    FAULTS[fault](Path("bad.png"))
    argv = arguments(app, "good.png", with_options=False)
    if app == "search":
        argv = ["search", "."]
    before = files()
    answer = ask(*argv, flag(field), "bad.png")
    check(answer)
    assert "bad.png" in answer.err
    assert files() == before


OTHERS = {
    "show": "show bad.png",
    "train": "train gan --data bad.png --run out",
    "evaluate": "evaluate --data bad.png --model toy",
    "data filter": "data filter bad.png",
    "data scenes": "data scenes bad.png out",
    "--from-file": "paint --from-file bad.png --model toy",
    "animate --settings": "animate a --settings bad.png --model toy",
    "config": "config set model bad.png",
}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "tiny"])
@pytest.mark.parametrize("command", OTHERS)
def test_a_bad_file_of_other_commands_is_one_line(ask: Ask, command: str, fault: str) -> None:
    if (command, fault) == ("--from-file", "text"):
        pytest.skip("a text is what it reads")
    FAULTS[fault](Path("bad.png"))
    before = files()
    answer = ask(*OTHERS[command].split())
    check(answer)
    assert files() == before


def painting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danqing.families.open_painter", lambda *_: Toy())


PRINTING = [
    *(f"{name} --help" for name in ("", *cli.commands())),
    *("models", "models --words stickers", "train --list", "config list", "config path", "show p.png"),
    *("paint a --model toy --seed 1", "paint a --model toy --seed 1 --json", "paint a --model toy --out -"),
    "imagine a --model toy --seed 1",
]


def outcome(argv: list[str], stdout: io.TextIOBase, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of the script with that stdout."""
    monkeypatch.setattr(sys, "argv", ["danqing", *argv])
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def full_stdout() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO("/dev/full", "w")), encoding="utf-8")


def closed_pipe() -> io.TextIOWrapper:
    read, write = os.pipe()
    os.close(read)
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(write, "w")), encoding="utf-8")


@pytest.mark.parametrize("line", PRINTING)
@pytest.mark.parametrize(("stdout", "code"), [(full_stdout, 1), (closed_pipe, 0)])
def test_a_stdout_that_fails(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    stdout: Callable[..., Any],
    code: int,
) -> None:
    painting(monkeypatch)
    if "p.png" in line:
        assert cli.run(["paint", "a", "--model", "toy", "--seed", "1", "--out", "p.png"]) == 0
    capfd.readouterr()
    with stdout() as stream:
        assert outcome(line.split(), stream, monkeypatch) == code
    lines = [row for row in capfd.readouterr().err.splitlines() if row.startswith("danqing: ")]
    assert lines == (["danqing: cannot write to standard output: No space left on device"] if code else [])
    if "--seed 1" in line and "paint" in line:
        assert (here / "paintings" / "a-1.png").exists()


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "cp1252"])
@pytest.mark.parametrize("line", PRINTING)
def test_a_stdout_that_lacks_characters(
    here: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    encoding: str,
) -> None:
    painting(monkeypatch)
    words = [word.replace("a", "猫🦊é") if word == "a" else word for word in line.split()]
    if "p.png" in line:
        cli.run(["paint", "猫🦊é", "--model", "toy", "--seed", "1", "--out", "p.png"])
    buffer = io.BytesIO()
    assert outcome(words, io.TextIOWrapper(buffer, encoding=encoding), monkeypatch) == 0


@pytest.mark.parametrize("app", names())
def test_a_read_only_folder_is_one_line(ask: Ask, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    painting(monkeypatch)
    Path("closed").mkdir()
    Path("closed").chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    before = files()
    if find_app(app).output in ("lines", "rows"):
        pytest.skip("it writes nothing")
    argv = arguments(app, "good.png")
    if app in ("blend", "learn"):
        argv.insert(3 if app == "learn" else 2, "good2.png")
    if app in ("reroll", "vary"):
        pytest.skip("it needs a picture that danqing painted")
    out = ["--out", "closed/sheet.png"] if app in ("search", "lineage") else ["--out", "closed/"]
    answer = ask(*argv, *out)
    check(answer)
    assert "closed" in answer.err
    assert files() == before


def test_a_disk_that_fills_up_leaves_no_half_picture(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    painting(monkeypatch)
    Path("paintings").mkdir(mode=0o777)
    Path("paintings").chmod(0o777)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))  # bytes: less than a picture, more than a message
    try:
        answer = ask("paint", "a", "--model", "toy", "--seed", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    lines = [row for row in answer.err.splitlines() if row.startswith("danqing: ")]
    assert answer.code == 1
    assert len(lines) == 1
    assert "cannot write 'paintings/a-1.png'" in lines[0]
    assert list(Path("paintings").iterdir()) == []


def test_what_every_request_would_meet_stops_all(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    painting(monkeypatch)
    Path("prompts.txt").write_text("a\nb\nc\n")
    answer = ask("paint", "--from-file", "prompts.txt", "--model", "toy", "--out", "good.png/x/")
    assert answer.code == 1
    check(answer)
    assert "prompts.txt line 1: cannot write 'good.png/x/a" in answer.err
    assert "(0 of 3 are done)" in answer.err


@pytest.mark.parametrize("home", [None, "/nowhere", "/dev/null"])
def test_no_home(ask: Ask, monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    painting(monkeypatch)
    for name in ("DANQING_CONFIG", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    Path("paintings").mkdir()
    Path("paintings").chmod(0o777)
    answer = ask("paint", "a", "--model", "toy", "--seed", "1")
    assert answer.code == 0, answer.err
    refused = ask("paint", "a", "--model", "toy", "--out", "~nobody-there/a.png")
    assert refused.code in (0, 1, 2)
    assert "Traceback" not in refused.err


LONG = "n" * 300
TOO_LONG = [
    f"learn {LONG} good.png good2.png --model toy",
    f"paint {LONG} --model toy --out {LONG}.png",
    f"paint a --model {LONG}",
    f"paint a --model toy --style {LONG}",
    f"paint a --model toy --adapter {LONG}",
    f"redraw {LONG} a --model toy",
    f"redraw {LONG}/{LONG} a --model toy",
    f"paint --from-file {LONG}",
    f"animate a --model toy --out {LONG}.gif",
    f"{LONG}",
    f"paint --{LONG}",
    f"show {LONG}",
    f"config set {LONG} a",
    f"config set model {LONG}",
    f"train {LONG}",
    f"data filter {LONG}",
    f"describe {LONG}.png",
]


@pytest.mark.parametrize("line", TOO_LONG, ids=lambda line: line.replace(LONG, "LONG"))
def test_a_name_that_is_too_long_is_one_line(ask: Ask, line: str) -> None:
    before = files()
    check(ask(*line.split()))
    assert files() == before


def test_every_command_is_tested_here() -> None:
    """A command that is no app must be named above, with what it reads."""
    commands = {name: cli._load(name) for name in cli.OTHER_COMMANDS}
    tested = {word for line in (*OTHERS, *OTHERS.values(), *PRINTING) for word in line.split()[:2]}
    for name, command in commands.items():
        parts = {name} if not isinstance(command, TyperGroup) else {name, *command.commands}
        assert parts & tested, name
