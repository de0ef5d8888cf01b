"""Everything that computes, on a GPU that is not there: no operation may mix its tensors with others."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from danqing.training import autoencoder, classifier, clip, diffusion, discrete_vae, upscaler, vit
from danqing.training.objective import Objective
from danqing.training.trainer import step_generator
from tests.devices import GPU, pretended
from tests.test_objectives import OBJECTIVES


def test_mixing_devices_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the other tests would prove nothing."""
    layer = torch.nn.Linear(4, 4)
    with pretended(monkeypatch):
        layer.to(GPU)
        assert layer(torch.zeros(2, 4).to(GPU)).device == GPU
        with pytest.raises(RuntimeError, match="on the same device"):
            layer(torch.zeros(2, 4))


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective: Objective = OBJECTIVES[name]()
    batch = objective.batch(4, step_generator(0, 0))
    for module in (autoencoder, classifier, clip, diffusion, discrete_vae, upscaler, vit):
        monkeypatch.setattr(module, "sheet_of", lambda *_, **__: Image.new("RGB", (1, 1)))
    with pretended(monkeypatch) as mode:
        objective.place(GPU)
        there = {key: mode.from_tensor(value).to(GPU) for key, value in batch.items()}
        assert objective(there)["loss"].device == GPU
        objective.eval().sheet()
