"""A training step of every family on a GPU that is not there: what stays behind on the CPU is noticed.

Fake tensors have no numbers, so a shape that depends on them (`bincount` in the perplexity) has no value.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from danqing.training import discrete_vae
from danqing.training.trainer import step_generator
from tests import test_adversarial
from tests.devices import GPU, pretended
from tests.distributed_training import ALL, GANS


@pytest.mark.parametrize("name", [name for name in ALL if name != "fast"])
def test_a_step_of_every_objective(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    objective = ALL[name]()
    batch = objective.batch(4, step_generator(0, 0))
    monkeypatch.setattr(discrete_vae, "perplexity", lambda tokens, _vocab: tokens.float().mean())
    with pretended(monkeypatch) as mode:
        objective.place(GPU)
        there = {key: mode.from_tensor(value).to(GPU) for key, value in batch.items()}
        losses: dict[str, Tensor] = objective.train()(there)
        assert {loss.device for loss in losses.values()} == {GPU}


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
