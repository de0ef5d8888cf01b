"""The command line in tests: in this process, and in one of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import danqing


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Ask = Callable[..., Answer]
"""Runs the words of a command line."""

TOY = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "import danqing.families, tests.toy; danqing.families.open_painter = tests.toy.open_painter\n"
    "from danqing.interfaces.cli.main import main; main()\n"
)
"""A program: the command line with the toy painter."""

PLACES = (Path(danqing.__file__).parent.parent, Path(__file__).parent.parent)  # of danqing and of `tests`


def python(code: str, **more: str) -> list[str]:
    """The command that runs `code`, with further variables of the environment."""
    paths = os.pathsep.join(map(str, PLACES))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}
    return ["env", *(f"{key}={value}" for key, value in environment.items()), sys.executable, "-c", code]


def paint(ask: Ask, *argv: str) -> Answer:
    """`danqing paint` with the toy model."""
    return ask("paint", "--model", "toy", *argv)


def pictures(folder: str = ".") -> list[str]:
    """The files in a folder that are neither JSON nor Python, sorted."""
    found = Path(folder).rglob("*.*")
    return sorted(str(path.relative_to(folder)) for path in found if path.suffix not in (".json", ".py"))
