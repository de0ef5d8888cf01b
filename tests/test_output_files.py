"""What is finished is saved and whole, and no file is replaced by accident."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from danqing.core.errors import DanqingError
from danqing.core.files import add_file, atomic_write
from danqing.core.picture import Picture
from tests.command_line import TOY, Ask, paint, pictures, python
from tests.toy import Toy, write_card

# ---- names


def test_many_writers_never_get_one_name(tmp_path: Path) -> None:
    def write(number: int) -> Path:
        return add_file(tmp_path / "a.txt", lambda draft: draft.write_text(str(number)) and None)

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(write, range(64)))
    assert len(set(paths)) == 64
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
    assert [int(path.read_text()) for path in paths] == list(range(64))


def test_a_file_system_without_links_still_claims_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    names = [
        add_file(tmp_path / "a.txt", lambda draft: draft.write_text("x") and None).name for _ in range(3)
    ]
    assert names == ["a.txt", "a-2.txt", "a-3.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_write_that_fails_leaves_nothing_and_claims_nothing(tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DanqingError, match="No space left on device"):
        add_file(tmp_path / "a.txt", full)
    assert list(tmp_path.iterdir()) == []


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "picture.txt"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    link = tmp_path / "link.txt"
    link.symlink_to(Path("deep") / "picture.txt")
    with atomic_write(link) as draft:
        assert target.read_text() == "old", "it stays until the new one is whole"
        draft.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_links_in_a_circle_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(DanqingError, match="cannot write"), atomic_write(tmp_path / "a"):
        pass


# ---- the file that the user names


def test_a_file_that_is_there_is_replaced_only_when_asked(ask: Ask) -> None:
    assert paint(ask, "a cat", "--seed", "1", "--out", "a.png").code == 0
    before = Path("a.png").read_bytes()
    answer = paint(ask, "a cat", "--seed", "2", "--out", "a.png")
    assert answer.code == 2
    assert (
        answer.err == "danqing: 'a.png' is there already: --overwrite replaces it, or choose another name\n"
    )
    assert Path("a.png").read_bytes() == before
    assert paint(ask, "a cat", "--seed", "2", "--out", "a.png", "--overwrite").out == "a.png\n"
    assert Picture.open("a.png").brief.seed == 2


def test_only_the_grid_takes_the_name_of_the_user(ask: Ask) -> None:
    assert paint(ask, "a cat", "--seed", "1", "--count", "2", "--out", "a.png").code == 0
    again = paint(ask, "a cat", "--seed", "1", "--count", "2", "--out", "a.png", "--overwrite")
    assert again.out.split() == ["a-1-2.png", "a-2-2.png", "a.png"]


@pytest.mark.parametrize(("key", "code", "seed"), [(b"y\n", 0, 2), (b"n\n", 130, 1)])
def test_a_terminal_is_asked(ask: Ask, tmp_path: Path, key: bytes, code: int, seed: int) -> None:
    assert paint(ask, "a cat", "--seed", "1", "--out", "a.png").code == 0
    command = [*python(TOY, TERM="dumb"), "paint", "a cat", "--model", "toy", "--out", "a.png", "--seed", "2"]
    leader, follower = pty.openpty()
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path) as process:
        os.close(follower)
        shown = b""
        while b"Replace it?" not in shown:
            shown += os.read(leader, 4096)
        os.write(leader, key)
        with suppress(OSError):  # how Linux says that the other end is closed
            while os.read(leader, 4096):
                pass
        assert process.wait(90) == code
    os.close(leader)
    assert Picture.open(tmp_path / "a.png").brief.seed == seed


def test_a_picture_that_cannot_be_replaced_stays(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(ask, "a cat", "--seed", "1", "--out", "a.png")
    before = Path("a.png").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    answer = paint(ask, "a cat", "--seed", "2", "--out", "a.png", "--overwrite")
    assert answer.code == 1
    assert "No space left on device" in answer.err
    assert Path("a.png").read_bytes() == before
    assert pictures() == ["a.png"]


# ---- work that is stopped


def test_what_was_finished_stays_and_is_counted(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[Any] = []
    finish = Toy.finish

    def stopped(self: Toy, canvas: object) -> object:
        if len(painted) == 2:
            raise KeyboardInterrupt
        painted.append(canvas)
        return finish(self, canvas)

    monkeypatch.setattr(Toy, "finish", stopped)
    answer = paint(ask, "a cat", "--seed", "1", "--count", "4", "--out", "f/")
    assert answer.code == 130
    assert answer.out.split() == ["f/a-cat-1.png", "f/a-cat-2.png"]
    assert "2 of 4 pictures\n" in answer.err
    assert pictures() == ["f/a-cat-1.png", "f/a-cat-2.png"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_leaves_whole_pictures_only(tmp_path: Path, number: signal.Signals, code: int) -> None:
    write_card(tmp_path / "toy")
    command = [*python(TOY, TOY_SECONDS="0.04"), "paint", "a cat", "--model", "toy", "--seed", "1"]
    command += ["--count", "16", "--steps", "6", "--out", "f/"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("f/a-cat-*.png"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=90)
    assert process.returncode == code
    finished = sorted(tmp_path.glob("f/a-cat-*.png"))
    assert 3 <= len(finished) < 16
    for path in finished:
        assert Picture.open(path).image.size == (32, 32)
    if number != signal.SIGKILL:
        assert f"{len(finished)} of 16 pictures" in err.decode()
        assert not list(tmp_path.glob("f/.*")), "no drafts are left"
        assert b"Traceback" not in err


def test_two_at_once_write_two_files(tmp_path: Path) -> None:
    write_card(tmp_path / "toy")
    command = [*python(TOY), "paint", "a cat", "--model", "toy", "--seed", "1", "--quiet"]
    both = [
        subprocess.Popen([*command, "--guidance", str(k + 1)], cwd=tmp_path, stdout=subprocess.PIPE)
        for k in range(2)
    ]
    told = {process.communicate(timeout=60)[0].decode().strip() for process in both}
    assert told == {"paintings/a-cat-1.png", "paintings/a-cat-1-2.png"}
    briefs = {Picture.open(tmp_path / path).brief.guidance for path in told}
    assert briefs == {1.0, 2.0}
