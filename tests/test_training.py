"""The trainer on a line through points: resuming, stopping, averaging and what it writes down."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from danqing.core.errors import BadWeights, NotFinite
from danqing.core.progress import Progress, no_progress
from danqing.training import checkpoint, log
from danqing.training.checkpoint import RunPosition
from danqing.training.log import Log
from danqing.training.objective import Objective
from danqing.training.prefetch import Prefetcher
from danqing.training.sheets import sheet_of
from danqing.training.trainer import Trainer, TrainOptions, learning_rate, step_generator
from tests.progress import Lines


class Line(Objective):
    """Learns the sum of three numbers. From step `bad` on the loss, or only its gradient, is NaN."""

    def __init__(self, bad: int = 10**9, finite_loss: bool = False, inputs: int = 3) -> None:
        super().__init__()
        self.line = nn.Linear(inputs, 1)
        self.bad, self.finite_loss, self.seen = bad, finite_loss, 0

    def batch(self, size: int, rng: Generator) -> dict[str, Tensor]:
        return {"x": torch.randn(size, 3, generator=rng)}

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        error = (self.line(batch["x"])[:, 0] - batch["x"].sum(dim=1)).float().square().mean()
        self.seen += 1
        if self.seen > self.bad:
            error = (error * 0).sqrt() if self.finite_loss else error * float("nan")
        return {"loss": error, "root": error.detach().sqrt()}

    def sheet(self) -> Image.Image:
        return Image.new("RGB", (4, 2), (int(1000 * self.line.bias.item()) % 256, 0, 0))

    def export(self, folder: Any) -> None:
        raise NotImplementedError


def line(seed: int = 0, **fields: Any) -> Line:
    torch.manual_seed(seed)
    return Line(**fields)


def options(**fields: Any) -> TrainOptions:
    given = {"steps": 6, "batch": 8, "lr": 0.1, "warmup": 2, "ema": 0.9, "precision": "no", "log_every": 1}
    return TrainOptions(**{**given, **fields})


def weights(objective: Line) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in objective.state_dict().items()}


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class KilledError(Exception):
    """What ends a run from outside."""


def killed_at(step: int) -> Callable[..., Any]:
    def stop(event: Progress) -> None:
        if event.message.startswith(f"step {step}/"):
            raise KilledError

    return stop


# ---- resuming


def same_checkpoint(one: Path, other: Path) -> None:
    for name in ("weights.safetensors", "ema.safetensors"):
        mine, theirs = load_file(one / name), load_file(other / name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    mine, theirs = (torch.load(folder / "optimiser.pt", weights_only=True) for folder in (one, other))
    assert str(mine) == str(theirs)
    for key, state in mine["state"].items():
        assert all(torch.equal(value, theirs["state"][key][name]) for name, value in state.items())
    steps = [json.loads((folder / "progress.json").read_text())["step"] for folder in (one, other)]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_an_interrupted_run_continues_bit_equal(tmp_path: Path, precision: str) -> None:
    """Killed at step 5 after a checkpoint at 4: weights, their average and the optimiser end the same."""
    asked = options(save_every=4, precision=precision)
    whole = weights(Trainer(line(), asked, tmp_path / "whole").train())
    with pytest.raises(KilledError):
        Trainer(line(), asked, tmp_path / "cut").train(killed_at(5))
    assert json.loads((tmp_path / "cut" / "checkpoint" / "progress.json").read_text())["step"] == 4
    resumed = weights(Trainer(line(seed=99), asked, tmp_path / "cut").train())
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    same_checkpoint(tmp_path / "whole" / "checkpoint", tmp_path / "cut" / "checkpoint")
    assert [row["loss"] for row in rows_of(tmp_path / "whole")] == [
        row["loss"] for row in rows_of(tmp_path / "cut")
    ]


def test_a_finished_run_is_read_not_repeated(tmp_path: Path) -> None:
    first = weights(Trainer(line(), options(), tmp_path).train())
    told = Lines()
    again = weights(Trainer(line(seed=99), options(), tmp_path).train(told))
    assert told == []
    assert all(torch.equal(first[name], again[name]) for name in first)


def saved(folder: Path, objective: Line | None = None) -> Line:
    objective = objective or line()
    optimiser = torch.optim.AdamW(objective.parameters())
    objective(objective.batch(4, step_generator(0, 0)))["loss"].backward()
    optimiser.step()
    shadow = [parameter.detach() + 1 for parameter in objective.parameters()]
    checkpoint.save(folder, objective, shadow, optimiser, RunPosition(7, 1.5))
    return objective


def read(folder: Path, objective: Line | None = None) -> tuple[Any, ...]:
    objective = objective or line(seed=5)
    return objective, checkpoint.load(folder, objective, torch.optim.AdamW(objective.parameters()))


def test_a_run_killed_between_the_renames_uses_the_checkpoint_before(tmp_path: Path) -> None:
    written = saved(tmp_path / "checkpoint")
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint.part").mkdir()
    (tmp_path / "checkpoint.part" / "weights.safetensors").touch()
    again, (shadow, at) = read(tmp_path / "checkpoint")
    assert at == RunPosition(7, 1.5)
    assert torch.equal(again.line.weight, written.line.weight)
    assert torch.equal(shadow[0], written.line.weight + 1)
    saved(tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_no_checkpoint_is_a_fresh_start(tmp_path: Path) -> None:
    assert read(tmp_path / "checkpoint")[1] is None


def test_a_save_that_fails_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "checkpoint")
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(OSError, match="no space"):
        saved(tmp_path / "checkpoint", line(seed=3))
    monkeypatch.undo()
    assert torch.equal(read(tmp_path / "checkpoint")[0].line.bias, saved(tmp_path / "other").line.bias)


def cut(name: str) -> Callable[..., Any]:
    def fault(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:40])

    return fault


FAULTS = {
    "weights cut short": cut("weights.safetensors"),
    "average cut short": cut("ema.safetensors"),
    "optimiser cut short": cut("optimiser.pt"),
    "optimiser empty": lambda folder: (folder / "optimiser.pt").write_bytes(b""),
    "optimiser no file of torch": lambda folder: (folder / "optimiser.pt").write_bytes(b"<html>"),
    "progress cut short": lambda folder: (folder / "progress.json").write_text("{"),
    "progress of another program": lambda folder: (folder / "progress.json").write_text("{}"),
    "weights missing": lambda folder: (folder / "weights.safetensors").unlink(),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_damaged_checkpoint_is_told_in_one_line(tmp_path: Path, fault: Callable[..., Any]) -> None:
    saved(tmp_path / "checkpoint")
    fault(tmp_path / "checkpoint")
    with pytest.raises(BadWeights, match=r"does not fit this run \(.+\): use another --run") as raised:
        read(tmp_path / "checkpoint")
    assert "\n" not in str(raised.value)


def test_a_checkpoint_of_another_network(tmp_path: Path) -> None:
    saved(tmp_path / "checkpoint")
    with pytest.raises(BadWeights, match="size mismatch"):
        read(tmp_path / "checkpoint", line(inputs=4))


# ---- stopping


@pytest.mark.parametrize("finite_loss", [False, True])
def test_nan_stops_and_the_last_good_checkpoint_stays(tmp_path: Path, finite_loss: bool) -> None:
    objective = line(bad=4, finite_loss=finite_loss)
    with pytest.raises(NotFinite, match=r"at step 4: training stopped.*lower learning rate"):
        Trainer(objective, options(save_every=2), tmp_path).train()
    assert all(value.isfinite().all() for value in weights(objective).values())
    _, (shadow, at) = read(tmp_path / "checkpoint")
    assert at.step == 4
    assert all(value.isfinite().all() for value in shadow)


# ---- averaging


def test_decay_of_the_average() -> None:
    decays = [EMAModel([], decay=0.9999).get_decay(step) for step in (0, 1, 10, 100, 1000)]
    assert decays == pytest.approx([0, 0, 10 / 19, 100 / 109, 1000 / 1009], abs=1e-6)


def test_the_average_follows_that_table(tmp_path: Path) -> None:
    """The first step takes the weights; step n after it averages with (n + 1) / (n + 10), at most `ema`."""
    objective, path = line(), []
    Trainer(objective, options(steps=12, ema=0.5, sheet_every=5, says_needs=False), tmp_path).train(
        lambda _: path.append(objective.line.weight.detach().clone())
    )
    average = path[0]
    for n, value in enumerate(path[1:], start=1):
        decay = min(0.5, (n + 1) / (n + 10))
        average = decay * average + (1 - decay) * value
    torch.testing.assert_close(objective.line.weight.detach(), average, rtol=0, atol=1e-6)


def test_sheets_show_the_average_and_training_goes_on_without_it(tmp_path: Path) -> None:
    trainer = Trainer(line(), options(steps=3), tmp_path)
    trainer.train()
    before = trainer.objective.line.bias.item()
    with torch.no_grad():
        trainer.objective.line.bias.fill_(5)
    with trainer.ema_scope() as objective:
        assert objective.line.bias.item() == pytest.approx(before)
    assert trainer.objective.line.bias.item() == 5


# ---- the pace


def test_learning_rate() -> None:
    asked = options(steps=100, warmup=10, lr=2.0)
    rates = [learning_rate(step, asked) for step in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert rates[9] == rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] == pytest.approx(0.2, rel=0.01)
    assert learning_rate(100, asked) == learning_rate(200, asked) == pytest.approx(0.2)
    assert learning_rate(0, options(warmup=0, lr=2.0)) == 2.0
    assert learning_rate(2, options(steps=2, warmup=2, lr=2.0)) == 2.0


def test_the_randomness_of_a_step_depends_on_seed_and_step_alone() -> None:
    def draws(seed: int, step: int) -> Tensor:
        return torch.randn(50, generator=step_generator(seed, step))

    assert torch.equal(draws(3, 4), draws(3, 4))
    many = torch.stack([draws(seed, step) for seed in range(2) for step in range(500)])
    assert len({row[0].item() for row in many}) == 1000
    near = torch.corrcoef(many).fill_diagonal_(0)  # deviation 1 / sqrt(50) = 0.14
    assert near.abs().max() < 0.8
    assert abs(near.mean().item()) < 0.001
    assert near.diagonal(offset=1).mean().abs() < 0.02


# ---- what it writes down


def test_log_lines_and_their_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of 3 seconds each, twice; 8 pictures a step; the last line also where it is not due."""
    now = iter(range(0, 1000, 6))
    monkeypatch.setattr(log.time, "monotonic", lambda: next(now))
    told = Lines()
    record = Log(tmp_path / "run" / "log.csv", 0, 1205, 8, told)
    for step in (1, 2, 3, 4, 1205):
        record.add(step, {"loss": float(step), "part": 0.5}, every=2)
    assert told == [
        "step 2/1205  loss 1.5000  part 0.5000  2.7 pictures/s  1:00:09 left",
        "step 4/1205  loss 3.5000  part 0.5000  2.7 pictures/s  1:00:03 left",
        "step 1205/1205  loss 1205.0000  part 0.5000  1.3 pictures/s  0:00:00 left",
    ]
    rows = rows_of(tmp_path / "run")
    assert list(rows[0]) == ["step", "loss", "part", "pictures_per_second"]
    assert [(row["step"], row["loss"]) for row in rows] == [("2", "1.5"), ("4", "3.5"), ("1205", "1205")]


def test_the_log_of_a_resumed_run_says_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    record = Log(path, 0, 1_000_003, 1, no_progress)
    for step in (1, 2, 1_000_000):
        record.add(step, {"loss": 1.0}, every=1)
    with path.open("a") as file:
        file.write("10000")  # killed while writing
    Log(path, 1, 3, 1, no_progress).add(2, {"loss": 9.0}, every=1)
    assert [(row["step"], row["loss"]) for row in rows_of(tmp_path)] == [("1", "1"), ("2", "9")]


def test_files_of_a_run(tmp_path: Path) -> None:
    Trainer(line(), options(steps=5, sheet_every=2, log_every=2), tmp_path).train()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log.csv", "sheets"]
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [path.name for path in sheets] == ["0000002.png", "0000004.png", "0000005.png"]
    for path in sheets:
        with Image.open(path) as sheet:
            assert sheet.size == (4, 2)
    assert [row["step"] for row in rows_of(tmp_path)] == ["2", "4", "5"]
    shutil.rmtree(tmp_path / "checkpoint")
    Trainer(line(), options(steps=5, log_every=2), tmp_path).train()
    assert [row["step"] for row in rows_of(tmp_path)] == ["2", "4", "5"]


def test_sheets_of_pictures() -> None:
    """Five pictures of 2 x 3 pixels, three to a row: the sixth cell is white, alpha is left out."""
    levels = torch.tensor([-1.0, -0.5, 0.0, 0.5, 2.0]).view(5, 1, 1, 1).expand(5, 4, 2, 3)
    sheet = sheet_of(levels, columns=3)
    assert (sheet.mode, sheet.size) == ("RGB", (9, 4))
    cells = [[sheet.getpixel((3 * x + 1, 2 * y + 1))[0] for x in range(3)] for y in range(2)]
    assert cells == [[0, 64, 128], [191, 255, 255]]
    assert sheet_of(levels[:1], columns=3).size == (9, 2)


def test_progress_is_told_in_words(tmp_path: Path) -> None:
    told = Lines()
    Trainer(line(), options(steps=2), tmp_path).train(told)
    pattern = r"step \d/2  loss \d+\.\d{4}  root \d+\.\d{4}  \d+\.\d pictures/s  0:00:\d\d left"
    assert len(told) == 2
    assert all(re.fullmatch(pattern, one) for one in told)


def test_one_process_trains_with_and_without_mixed_precision(tmp_path: Path) -> None:
    """Accelerate would hold every later training to the precision of the first."""
    for precision in ("no", "bf16", "no"):
        run = tmp_path / f"{precision}{len(list(tmp_path.iterdir()))}"
        Trainer(Line(), TrainOptions(steps=2, batch=4, precision=precision, sheet_every=10**9), run).train()


def test_drawing_ahead_gives_the_same_batches() -> None:
    drawn: list[int] = []

    def draw(step: int) -> dict[str, torch.Tensor]:
        drawn.append(step)
        if step == 9:
            raise ValueError("no such picture")
        return {"x": torch.full((2,), float(step))}

    ahead = Prefetcher(draw)
    assert [ahead(step)["x"].tolist() for step in (3, 4, 5, 7)] == [[k, k] for k in (3.0, 4.0, 5.0, 7.0)]
    assert drawn.count(4) == drawn.count(5) == 1
    ahead(8)
    with pytest.raises(ValueError, match="no such picture"):
        ahead(9)
    ahead.close()
