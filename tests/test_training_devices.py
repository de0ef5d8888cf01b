"""A training step of every family on a GPU that is not there: what stays behind on the CPU is noticed.

Fake tensors have no numbers, so a shape that depends on them (`bincount` in the perplexity) has no value.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from danqing.diffusion.painter import DiffusionPainter
from danqing.families.stable_diffusion.painter import random_painter
from danqing.training import discrete_vae
from danqing.training.objective import Batch, Objective
from danqing.training.trainer import step_generator
from danqing.tuning.adapter import attach
from danqing.tuning.distillation import every_layer
from danqing.tuning.dreambooth import LossOptions, Shots, SubjectObjective
from danqing.tuning.learning import METHODS
from tests import test_adversarial, test_distillation, test_learning
from tests.devices import GPU, pretended
from tests.distributed_training import ALL, GANS


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("fast", "ddpm uneven")])
def test_a_step_of_every_objective(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    objective = ALL[name]()
    batch = objective.batch(4, step_generator(0, 0))
    monkeypatch.setattr(discrete_vae, "perplexity", lambda tokens, _vocab: tokens.float().mean())
    with pretended(monkeypatch) as mode:
        objective.place(GPU)
        assert devices_of_losses(objective.train(), batch, mode) == {GPU}


@pytest.mark.parametrize("name", list(GANS))
def test_both_networks_of_every_gan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their losses need gradients, which fake tensors do not have here."""
    task = test_adversarial.duel_of(GANS[name])
    rng = step_generator(0, 0)
    latent, label = task.generator.draw(4, rng), torch.zeros(4, task._labels.shape[1])
    with pretended(monkeypatch) as mode:
        task.to(GPU)
        drawn = {key: mode.from_tensor(part).to(GPU) for key, part in latent.items()}
        pixels = task.generator(drawn, mode.from_tensor(label).to(GPU))
        assert pixels.device == GPU
        assert task.discriminator(pixels, mode.from_tensor(label).to(GPU)).device == GPU


@pytest.fixture
def painter() -> DiffusionPainter:
    return random_painter("tiny")


def test_a_step_of_distillation(painter: DiffusionPainter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its low-rank changes are made anew: on the fake GPU they would not stay the parameters that train."""
    ours = test_distillation.objective(painter)
    batch = ours.batch(4, step_generator(0, 0))
    with pretended(monkeypatch) as mode:
        ours.place(GPU)
        ours.adapter = every_layer(painter, rank=2)
        assert devices_of_losses(ours, batch, mode) == {GPU}


@pytest.mark.parametrize("method", list(METHODS))
def test_a_step_of_learning(painter: DiffusionPainter, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text encoder's layers change too."""
    shots = Shots(torch.zeros(5, 8, 4, 4), ("zq cat", "a zq cat"))
    with pretended(monkeypatch) as mode:
        painter.place(GPU)
        adapter = METHODS[method].begin(painter, replace(test_learning.QUICK, text=True))
        assert {tensor.device for tensor in adapter.tensors()} == {GPU}
        with attach(painter, {adapter: 1.0}):
            ours = SubjectObjective(painter, adapter, shots, shots, [], LossOptions(1.0, 5.0))
            batch = ours.batch(4, step_generator(0, 0))
            assert devices_of_losses(ours, batch, mode) == {GPU}


def devices_of_losses(objective: Objective, batch: Batch, mode: FakeTensorMode) -> set[torch.device]:
    there = {key: mode.from_tensor(value).to(GPU) for key, value in batch.items()}
    return {loss.device for loss in objective(there).values()}
