"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from danqing.interfaces.cli import main as cli
from tests.command_line import Answer, Ask
from tests.toy import open_painter, write_card

# no deadline: a busy machine is slow, not wrong; no example database: a test leaves no files behind
settings.register_profile("danqing", deadline=None, database=None)
settings.load_profile("danqing")


@pytest.fixture(autouse=True)
def no_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has set changes nothing."""
    monkeypatch.setenv("DANQING_CONFIG", str(tmp_path_factory.mktemp("settings") / "danqing" / "config.toml"))
    monkeypatch.setenv("DANQING_LANG", "en")
    monkeypatch.delenv("DANQING_DEVICE", raising=False)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ask:
    """The command line in an empty folder, with the toy model in ./toy."""
    write_card(tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("danqing.families.open_painter", open_painter)

    def run(*argv: str) -> Answer:
        code = cli.run(argv)
        return Answer(code, *capfd.readouterr())

    return run
