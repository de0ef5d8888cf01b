"""What computes, on a GPU that is not there: no operation may mix its tensors with others. And the choice."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from danqing.core.brief import Brief
from danqing.core.device import ENVIRONMENT, chosen_device
from danqing.core.errors import BadBrief
from danqing.core.painter import NO_IMAGES, InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.schedule import Schedule
from danqing.evaluation.evaluate import codec_figures
from danqing.families.stable_diffusion.painter import random_painter
from danqing.interfaces.cli.main import run
from danqing.training import autoencoder, classifier, clip, diffusion, discrete_vae, upscaler, vit, words
from danqing.training.objective import Objective
from danqing.training.trainer import step_generator
from danqing.tuning.adapter import attached
from danqing.tuning.inversion import edited
from tests.adapters import random_adapter
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
    for module in (autoencoder, classifier, clip, diffusion, discrete_vae, upscaler, vit, words):
        monkeypatch.setattr(module, "sheet_of", lambda *_, **__: Image.new("RGB", (1, 1)))
    with pretended(monkeypatch) as mode:
        objective.place(GPU)
        there = {key: mode.from_tensor(value).to(GPU) for key, value in batch.items()}
        assert objective(there)["loss"].device == GPU
        objective.eval().sheet()


# ---- painting

FIELDS: dict[str, dict[str, object]] = {
    "words": {"negative_prompt": "blurred"},
    "parts": {"prompt": "a cat::2 a dog::-0.5 AND [a red:a blue:0.5] (house:1.3)"},
    "taste": {"stylize": 400, "chaos": 30, "weird": 200, "rescale": 0.5},
    "tile": {"tile": True},
    "heun": {"sampler": "heun"},
    "unipc": {"sampler": "unipc"},
    "sde": {"sampler": "dpmpp_2m_sde"},
    "lcm": {"sampler": "lcm"},
}
PICTURE = torch.zeros(1, 4, 32, 32)
GIVEN = {
    "redraw": InputImages(image=PICTURE),
    "inpaint": InputImages(image=PICTURE, region=torch.ones(1, 1, 32, 32)),
    "blend": InputImages(references=(PICTURE, PICTURE + 0.1), weights=(1.0, 2.0)),
}


def paint(
    painter: DiffusionPainter, given: InputImages, monkeypatch: pytest.MonkeyPatch, **fields: object
) -> None:
    brief = Brief.of(**{"prompt": "a cat", "seed": 1, "steps": 3, "native": True, **fields})
    monkeypatch.setattr(Schedule, "share", lambda _, strength: strength)  # which numpy computes
    with pretended(monkeypatch):
        painter.place(GPU)
        assert painter.device == GPU
        resolved = brief.resolved(painter.card)
        said = painter.condition(resolved, given)
        for canvas in painter.steps(resolved, said, painter.begin(resolved, said, Seeds.of(1, 2))):
            assert canvas.state.device == GPU
            assert painter.preview(canvas).device.type == "cpu"
        pixels = painter.finish(canvas)
        assert pixels.device.type == painter.enlarge(pixels).device.type == "cpu"


@pytest.mark.parametrize("fields", FIELDS.values(), ids=list(FIELDS))
def test_painting(fields: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    paint(random_painter(), NO_IMAGES, monkeypatch, **fields)


@pytest.mark.parametrize("given", GIVEN.values(), ids=list(GIVEN))
def test_painting_from_pictures(given: InputImages, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(random_painter(), given, monkeypatch, strength=0.7)


def test_painting_with_what_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = random_painter()
    with attached(painter, {random_adapter(painter): 0.7}):
        paint(painter, NO_IMAGES, monkeypatch)


@pytest.mark.filterwarnings("ignore:the depth map is the same everywhere")
def test_painting_beside_a_depth_map(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = random_painter("sd2-depth-tiny")
    sides = painter.card.height, painter.card.width
    given = InputImages(image=torch.zeros(1, 3, *sides), depth=torch.rand(1, 1, *sides))
    paint(painter, given, monkeypatch, strength=0.7)


def test_editing(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = random_painter()
    brief = Brief(prompt="a cat", seed=1, steps=2, native=True, sampler="ddim").resolved(painter.card)
    with pretended(monkeypatch):
        painter.place(GPU)
        canvas = edited(painter, PICTURE, brief, brief.model_copy(update={"prompt": "a dog"}))
        assert canvas.state.device == GPU


# ---- the choice


def test_measuring_a_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = random_painter()
    with pretended(monkeypatch) as mode:
        painter.place(GPU)
        assert codec_figures(painter.codec, mode.from_tensor(torch.zeros(2, 4, 32, 32)))


def test_the_choice_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert chosen_device() == chosen_device("auto") == torch.device("cuda:0")
    assert chosen_device("cuda") == torch.device("cuda")
    with pytest.raises(BadBrief, match="device 'cuda:1' is not there"):
        chosen_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device() == torch.device("cpu")
    with pytest.raises(BadBrief, match="device 'cuda' is not there"):
        chosen_device("cuda")
    with pytest.raises(BadBrief, match="unknown device 'gpu': use auto"):
        chosen_device("gpu")
    monkeypatch.setenv(ENVIRONMENT, "meta")
    with pytest.raises(BadBrief, match="device 'meta' is not there"):
        chosen_device()


def test_a_device_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--device", "cuda:9", "paint", "a cat"]) == 2
    *_, told = capsys.readouterr().err.splitlines()
    assert "device 'cuda:9' is not there" in told
    assert run(["--device", "cpu", "models"]) == 0
