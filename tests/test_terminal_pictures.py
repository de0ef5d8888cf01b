"""Pictures in a terminal, as an emulator would decode them: kitty's protocol and sixels.

The test is the terminal at the other end of a pty. It answers what it is asked, and decodes what it is sent.
"""

from __future__ import annotations

import base64
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command_line import python

COLUMNS, ROWS, CELL = 60, 30, (10, 20)
SHOW = """
import os, sys
from PIL import Image
from textual_image import _terminal
read = _terminal.read
_terminal.read = lambda fd, length, timeout: read(fd, length, 60)  # a busy machine answers late
from danqing.interfaces.cli.viewing import show_in_terminal
assert show_in_terminal(Image.open(sys.argv[1]))
"""
TERMINAL: dict[str, Any] = {
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
    "COLUMNS": str(COLUMNS),
    "LINES": str(ROWS),
}
DIACRITICS = "\u0305\u030d\u030e\u0310\u0312\u033d\u033e\u033f\u0346\u034a"  # kitty's first ten numbers


def kitty(asked: str) -> str:
    """What kitty answers: its graphics protocol, and no sixels."""
    if asked == "\x1b[c":
        return "\x1b[?62;c"
    number = re.search(r"i=(\d+)", asked)
    return f"\x1b_Gi={number[1]};OK\x1b\\" if number and "a=q" in asked else ""


def iterm(asked: str) -> str:
    """What iTerm2, xterm, WezTerm and others answer: 4 in the attributes means sixels."""
    return "\x1b[?62;4;22c" if asked == "\x1b[c" else ""


def shown(path: Path, terminal: Callable[[str], str], *, piped: bool = False) -> str:
    """What a terminal is sent when it shows a picture. piped: stdin is a pipe, as of a prompt."""
    leader, follower = pty.openpty()
    size = struct.pack("HHHH", ROWS, COLUMNS, COLUMNS * CELL[0], ROWS * CELL[1])
    fcntl.ioctl(follower, termios.TIOCSWINSZ, size)
    command = [*python(SHOW, **TERMINAL), str(path)]
    own = "import fcntl, sys, termios; fcntl.ioctl(1, termios.TIOCSCTTY, 0)\n"  # so that /dev/tty is this one
    command[-2] = own + command[-2]
    stdin = subprocess.DEVNULL if piped else follower
    sent, answered = b"", 0
    with subprocess.Popen(
        command, stdin=stdin, stdout=follower, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        os.close(follower)
        with suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(leader, 65536):
                sent += part
                for question in re.finditer(rb"\x1b\[c|\x1b_G[^\x1b]*a=q[^\x1b]*\x1b\\", sent):
                    if question.end() > answered:
                        answered = question.end()
                        os.write(leader, terminal(question[0].decode()).encode())
        _, errors = process.communicate(timeout=120)
    os.close(leader)
    assert process.returncode == 0, errors.decode()
    return sent.decode().replace("\r\n", "\n")


def decode_sixels(text: str) -> np.ndarray:
    """The pixels [h w 3] of the sixels in a text, by the manual of DEC's VT340; no pixel may be left out."""
    [body] = re.findall(r"\x1bP[\d;]*q(.*?)\x1b\\", text, re.DOTALL)
    size = re.match(r'"\d+;\d+;(\d+);(\d+)', body)
    assert size is not None
    width, height = map(int, size.groups())
    pixels, palette = np.full((height + 6, width, 3), np.nan), {}
    x, y, colour = 0, 0, 0
    for token in re.finditer(
        r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|(?:!(\d+))?([?-~])|([$-])", body[size.end() :]
    ):
        number, red, green, blue, times, six, move = token.groups()
        if number is not None:
            colour = int(number)
            if red is not None:
                palette[colour] = [int(value) * 255 / 100 for value in (red, green, blue)]
        elif six is not None:
            for bit in range(6):
                if (ord(six) - 63) >> bit & 1:
                    pixels[y + bit, x : x + int(times or 1)] = palette[colour]
            x += int(times or 1)
        else:
            x, y = 0, y + (6 if move == "-" else 0)
    assert not np.isnan(pixels[:height]).any()
    return pixels[:height]


def messages_of_kitty(text: str) -> Iterator[tuple[dict[str, str], str]]:
    """The graphics messages in a text: keys and payload, without the question what it knows."""
    for head, payload in re.findall(r"\x1b_G([^;\x1b]*);?([^\x1b]*)\x1b\\", text):
        keys = dict(pair.split("=") for pair in head.split(","))
        if keys.get("a") != "q":
            yield keys, payload


@pytest.fixture(params=[(64, 64), (256, 48), (20, 200)], ids=["square", "wide", "high"])
def picture(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four fields of colours, the last one transparent."""
    width, height = request.param
    image = Image.new("RGBA", (width, height), (220, 20, 20, 255))
    image.paste((20, 180, 40, 255), (width // 2, 0, width, height // 2))
    image.paste((30, 60, 200, 255), (0, height // 2, width // 2, height))
    image.paste((0, 0, 0, 0), (width // 2, height // 2, width, height))
    image.save(tmp_path / "four.png")
    return tmp_path / "four.png"


FIELDS = np.array([[(220, 20, 20), (20, 180, 40)], [(30, 60, 200), (255, 255, 255)]])


def check(pixels: np.ndarray, path: Path) -> None:
    """The middle of each field has its colour, and the shape is that of the picture, to a cell."""
    height, width = pixels.shape[:2]
    with Image.open(path) as image:
        assert width <= COLUMNS * CELL[0]
        assert height <= ROWS * CELL[1]
        assert abs(width - height * image.width / image.height) <= max(CELL) * max(
            1, image.width / image.height
        )
    middles = pixels[height // 4 :: height // 2, width // 4 :: width // 2][:2, :2]
    assert np.abs(middles - FIELDS).max() <= 8  # of 255: there are 256 colours, in percent


@pytest.mark.parametrize("piped", [False, True], ids=["", "piped"])
def test_sixels(picture: Path, piped: bool) -> None:
    check(decode_sixels(shown(picture, iterm, piped=piped)), picture)


def test_kitty(picture: Path) -> None:
    text = shown(picture, kitty)
    messages = list(messages_of_kitty(text))
    data = [(keys, payload) for keys, payload in messages if "a" not in keys]
    [placement] = [keys for keys, _ in messages if keys.get("a") == "p"]
    assert [keys["m"] for keys, _ in data] == ["1"] * (len(data) - 1) + ["0"]
    assert all(len(payload) <= 4096 for _, payload in data)
    assert {keys["i"] for keys, _ in data} == {placement["i"]}
    with Image.open(io.BytesIO(base64.b64decode("".join(payload for _, payload in data)))) as image:
        assert image.format == "PNG"
        check(np.asarray(image.convert("RGB")).astype(float), picture)
        assert image.size == (int(placement["c"]) * CELL[0], int(placement["r"]) * CELL[1])
    lines = [line for line in re.sub(r"\x1b\[[\d;]*m", "", text).split("\n") if "\U0010eeee" in line]
    cells = [line[line.index("\U0010eeee") :].split("\U0010eeee")[1:] for line in lines]
    assert placement["U"] == "1"
    assert (len(cells), {len(row) for row in cells}) == (int(placement["r"]), {int(placement["c"])})
    for row, line in zip(DIACRITICS, cells, strict=False):
        assert [cell[:2] for cell in line[: len(DIACRITICS)]] == [row + column for column in DIACRITICS][
            : len(line)
        ]
