"""Two processes, as torchrun starts them, learn what one learns from the same batches; killed, they go on."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed_training import main

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LAUNCH = [*TORCHRUN, "-m", "tests.distributed_training"]


def launch(*arguments: str) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *LAUNCH, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=300)
    return done.returncode


def losses(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if "second" not in name} for row in rows]


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """Every family, one of them killed after two steps. Measured: equal in the six digits of the log."""
    main(tmp_path / "one")
    assert launch(str(tmp_path / "two"), "stop") != 0
    assert launch(str(tmp_path / "two")) == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {"diffusion", "gan", "stylegan", "ddpm", "ddpm uneven", "imagen base", "dalle1 tokens"} <= set(
        names
    )
    for name in names:
        one, two = (losses(tmp_path / folder / name) for folder in ("one", "two"))
        assert len(one) == 3
        for expected, measured in zip(one, two, strict=True):
            assert measured == pytest.approx(expected, rel=2e-5, abs=1e-6), name
