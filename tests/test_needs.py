"""What long work says of its needs before it starts, and a disk that is too small for it."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from danqing.core.errors import DanqingError
from danqing.core.needs import Needs, check_room, peak_memory, second_of, size_text, time_text
from danqing.training.trainer import Trainer
from tests.progress import Lines
from tests.test_adversarial import duel_of
from tests.test_adversarial import options as gan_options
from tests.test_training import line, options

CPU = torch.device("cpu")
Usage = namedtuple("Usage", "total used free")
LINE = r"about \d+(\.\d)? (s|min|h), \d+(\.\d)? (MiB|GiB) of memory and \d+(\.\d)? (bytes|KiB|MiB) of disk"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (50.4, "50 s"), (89, "89 s"), (380, "6 min"), (5400, "1.5 h"), (12600, "3.5 h")],
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 KiB"), (860_160, "840 KiB"), (1.2 * 2**30, "1.2 GiB")],
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text


@given(st.integers(0, 2**70))
def test_a_size_is_said_within_a_twentieth(size: int) -> None:
    number, unit = size_text(size).split()
    factor = 1024 ** ("bytes", "KiB", "MiB", "GiB", "TiB").index(unit)
    assert float(number) * factor == pytest.approx(size, rel=0.052)
    assert unit == "TiB" or len(number) <= 4


def test_what_is_not_known_is_not_said() -> None:
    assert str(Needs(380, 2**30, 40 * 2**20)) == "about 6 min, 1.0 GiB of memory and 40 MiB of disk"
    assert str(Needs(380, 0, 40 * 2**20)) == "about 6 min and 40 MiB of disk"


def test_memory_is_what_the_process_held(monkeypatch: pytest.MonkeyPatch) -> None:
    status = Path("/proc/self/status")
    if status.exists():
        [kib] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert peak_memory(CPU) == pytest.approx(int(kib) * 1024, rel=0.05)
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory(CPU) == 0


def test_the_second_round_is_measured() -> None:
    def rounds(*seconds: float) -> Iterator[int]:
        for number, wait in enumerate(seconds):
            time.sleep(wait)
            yield number

    result, seconds = second_of(rounds(0.2, 0.02, 9))
    assert result == 1
    assert 0.02 <= seconds < 0.2
    result, seconds = second_of(rounds(0.05))
    assert result == 0
    assert seconds >= 0.05


def test_a_disk_without_room_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_room(tmp_path / "not" / "there", 1)
    with pytest.raises(DanqingError, match=r"^the disk of '.*not/there' has .* free and .* are needed: make"):
        check_room(tmp_path / "not" / "there", 2**70)

    def fails(_: object) -> None:
        raise OSError

    monkeypatch.setattr(shutil, "disk_usage", fails)
    check_room(tmp_path, 2**70)  # where the system does not tell


def test_a_training_says_what_it_needs_and_how_long_it_takes(tmp_path: Path) -> None:
    told = Lines()
    Trainer(line(), options(steps=5), tmp_path / "a").train(told)
    [note] = told.notes
    assert re.fullmatch(f"this training needs {LINE}", note)
    Trainer(line(), options(steps=5), tmp_path / "a").train(told)
    assert len(told.notes) == 1, "nothing is left to train"


@pytest.mark.parametrize("kind", ["line", "gan"])
def test_a_checkpoint_is_as_large_as_said(tmp_path: Path, kind: str) -> None:
    from danqing.training.adversarial import AdversarialTrainer

    trainer = (
        Trainer(line(), options(steps=2), tmp_path)
        if kind == "line"
        else AdversarialTrainer(duel_of("dcgan"), gan_options(steps=2), tmp_path)
    )
    trainer.train()
    size = sum(file.stat().st_size for file in (tmp_path / "checkpoint").iterdir())
    overhead = 20_000  # names and headers
    assert trainer._checkpoint_size() <= size <= 1.1 * trainer._checkpoint_size() + overhead


def test_a_training_on_a_full_disk_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9, 9, 9))
    with pytest.raises(DanqingError, match="has 9 bytes free"):
        Trainer(line(), options(steps=5), tmp_path / "a").train()
    assert not list(tmp_path.rglob("*.csv"))
