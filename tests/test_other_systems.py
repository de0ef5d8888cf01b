"""What Windows and small systems lack or do otherwise: hard links, signals, quotes, files that are mapped."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from danqing.core.files import add_file
from danqing.interfaces.cli import shell, stop_signals
from danqing.interfaces.cli.stop_signals import StopSignals, delayed_stop
from danqing.training import checkpoint
from danqing.training.checkpoint import RunPosition

WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n")), max_size=4)


def windows_words(line: str) -> list[str]:
    """The words of a command line as the C runtime of Windows splits it, by its documented rules."""
    words, word, inside, slashes = [], "", False, 0
    started = False
    for character in [*line, None]:
        if character == "\\":
            slashes += 1
            continue
        if character == '"':
            word += "\\" * (slashes // 2)
            if slashes % 2:
                word += '"'
            else:
                inside = not inside
            started, slashes = True, 0
            continue
        if slashes:
            word, started, slashes = word + "\\" * slashes, True, 0
        if character is None or (character in " \t" and not inside):
            if started:
                words.append(word)
            word, started = "", False
        else:
            word, started = word + character, True
    return words


@given(WORDS)
def test_a_command_line_means_its_words(words: list[str]) -> None:
    assert shlex.split(shell.join_words(words)) == words
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        assert windows_words(shell.join_words(words)) == words


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("a-1.png", "a-1.png"),
        (r"C:\a b\c", r'"C:\a b\c"'),
        ("<my-cat>", '"<my-cat>"'),
        ("a|b", '"a|b"'),
        ("", '""'),
    ],
)
def test_what_a_shell_of_windows_would_take_for_its_own_is_quoted(
    monkeypatch: pytest.MonkeyPatch, word: str, quoted: str
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert shell.quote(word) == quoted


@pytest.mark.parametrize("error", [NotImplementedError, OSError, PermissionError])
def test_names_are_claimed_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr(Path, "hardlink_to", refused)
    paths = [add_file(tmp_path / "a.txt", lambda draft: draft.write_text(str(k))) for k in range(3)]  # noqa: B023
    assert [path.name for path in paths] == ["a.txt", "a-2.txt", "a-3.txt"]
    assert [path.read_text() for path in paths] == ["0", "1", "2"]
    assert len(list(tmp_path.iterdir())) == 3


def test_signals_that_are_not_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals().handle(), delayed_stop():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_break_stops_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    stop = StopSignals()
    with pytest.raises(KeyboardInterrupt), stop.handle():
        signal.raise_signal(signal.SIGUSR1)
    assert stop.exit_code(130) == 128 + signal.SIGUSR1


def test_a_handler_of_another_language_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that embeds Python: `getsignal` gives None, which `signal` does not take."""
    monkeypatch.setattr(stop_signals.signal, "getsignal", lambda _: None)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopSignals().handle(), delayed_stop():
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


def test_a_checkpoint_that_was_read_is_not_held(tmp_path: Path) -> None:
    """Windows replaces no file that is mapped: what was read must not change with the file."""
    network = torch.nn.Linear(300, 300)
    optimiser = torch.optim.AdamW(network.parameters())
    average = [parameter.detach().clone() for parameter in network.parameters()]
    checkpoint.save(tmp_path / "checkpoint", network, average, optimiser, RunPosition(1, 0.0))
    read = checkpoint.load(tmp_path / "checkpoint", network, optimiser)
    assert read is not None
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(tmp_path) not in maps.read_text()
    assert all(torch.equal(a, b) for a, b in zip(read[0], average, strict=True))
