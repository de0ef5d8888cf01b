"""What all tests share."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli import progress
from tests.command_line import Answer, Ask
from tests.toy import open_painter, write_card

# no deadline: a busy machine is slow, not wrong; no example database: a test leaves no files behind;
# the same examples in each run: who changes nothing sees nothing fail. New ones: HYPOTHESIS_PROFILE=explore
settings.register_profile("danqing", deadline=None, database=None, derandomize=True)
settings.register_profile("explore", parent=settings.get_profile("danqing"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "danqing"))

os.environ["DANQING_SERVER"] = "off"  # the studio of the person who runs the tests has no part in them


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Random networks are the same whatever ran before, on how many processes."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has set changes nothing, nor how fast the machine is."""
    monkeypatch.setattr(progress, "LINE_SECONDS", math.inf)
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
