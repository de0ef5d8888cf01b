"""What computes, on a GPU that is not there: no operation may mix its tensors with others. And the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from danqing.conditioning.names import Names
from danqing.core.brief import Brief
from danqing.core.card import Can
from danqing.core.device import resolve_device, resolve_dtype
from danqing.core.errors import BadBrief
from danqing.core.painter import NO_IMAGES, InputImages, Painter
from danqing.core.seeds import Seeds
from danqing.diffusion.schedule import Schedule
from danqing.evaluation.evaluate import vae_figures
from danqing.families import gan
from danqing.families.clip import ClipScorer, build_clip
from danqing.families.dalle1 import painter as dalle1
from danqing.families.dalle2 import painter as dalle2
from danqing.families.ddpm import painter as ddpm
from danqing.families.disco.painter import DiscoPainter, disco_card
from danqing.families.disco.settings import Settings
from danqing.families.imagen import painter as imagen
from danqing.families.stable_diffusion.control import Control, place_beside, with_controls
from danqing.families.stable_diffusion.image_prompts import ImagePrompt, tokens_of, with_image_prompts
from danqing.families.stable_diffusion.painter import byte_tokenizer, random_components, random_painter, x4_of
from danqing.families.stable_diffusion.painter import painter_of as stable_diffusion_of
from danqing.families.stylegan import painter as stylegan
from danqing.interfaces.cli.main import run
from danqing.training import classifier, clip, diffusion, discrete_vae, upscaler, vae, vit, words
from danqing.training.objective import Objective
from danqing.training.trainer import step_generator
from danqing.tuning.adapter import attach
from danqing.tuning.inversion_edit import edit_by_inversion
from danqing.weights.ip_adapter import read_ip_adapter
from tests.adapters import random_adapter
from tests.controlnets import controlnet_for
from tests.devices import GPU, pretended
from tests.image_prompts import image_encoder, ip_adapter, t2i_adapter
from tests.single_files import SD1, tiny
from tests.test_objectives import OBJECTIVES
from tests.text_encoders import reader

LAYERS = {
    "linear": (lambda: nn.Linear(4, 4), (2, 4)),
    "convolution": (lambda: nn.Conv2d(4, 4, 3), (2, 4, 8, 8)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(4, 4, 3), (2, 4, 8, 8)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (2, 4, 8, 8)),
    "batch norm": (lambda: nn.BatchNorm2d(4), (2, 4, 8, 8)),
    "layer norm": (lambda: nn.LayerNorm(4), (2, 4)),
}


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=list(LAYERS))
def test_mixing_devices_is_noticed(
    make: Callable[[], nn.Module], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the other tests would prove nothing."""
    layer = make()
    with pretended(monkeypatch):
        layer.to(GPU)
        assert layer(torch.zeros(shape).to(GPU)).device == GPU
        with pytest.raises(RuntimeError, match="on the same device"):
            layer(torch.zeros(shape))


def test_mixing_devices_is_noticed_between_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = nn.Embedding(4, 4)
    with pretended(monkeypatch):
        embedding.to(GPU)
        with pytest.raises(RuntimeError, match="on the same device"):
            embedding(torch.zeros(2, dtype=torch.long))
        for mixed in (torch.add, torch.mul, torch.matmul, lambda a, b: torch.cat([a, b])):
            with pytest.raises(RuntimeError, match="on the same device"):
                mixed(torch.zeros(2, 2).to(GPU), torch.zeros(2, 2))
        assert (torch.zeros(2).to(GPU) * torch.tensor(2.0)).device == GPU  # a number may lie anywhere


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective: Objective = OBJECTIVES[name]()
    batch = objective.batch(4, step_generator(0, 0))
    for module in (vae, classifier, clip, diffusion, discrete_vae, upscaler, vit, words):
        monkeypatch.setattr(module, "sheet_of", lambda *_, **__: Image.new("RGB", (1, 1)))
    monkeypatch.setattr(words, "PROBES", 1)
    with pretended(monkeypatch) as mode:
        objective.place(GPU)
        there = {key: mode.from_tensor(value).to(GPU) for key, value in batch.items()}
        assert objective(there)["loss"].device == GPU
        objective.eval().sheet()


# ---- painting

NAMES = Names(("cat/猫", "dog/狗"))


def scorer() -> ClipScorer:
    tokenizer = byte_tokenizer(16)
    return ClipScorer.of(build_clip("tiny", tokenizer), tokenizer)


def disco() -> DiscoPainter:
    base = random_painter()
    for module in base.modules.values():
        module.requires_grad_(False)
    settings = Settings(cutn_batches=1, cut_overview="[2]*1000", cut_innercut="[1]*1000")
    return DiscoPainter(disco_card("tiny", base.card), base, (scorer(),), settings)


PAINTERS: dict[str, Callable[[], Painter]] = {
    "stable_diffusion": random_painter,
    "ddpm": lambda: ddpm.random_painter("tiny", NAMES),
    "imagen": lambda: imagen.painter_of(imagen.random_components(reader())),
    "dalle2": dalle2.random_painter,
    "dalle1": lambda: dalle1.random_painter("tiny", scorer=scorer()),
    "gan": lambda: gan.random_painter("tiny", NAMES),
    "stylegan": lambda: replace(stylegan.random_painter("tiny", NAMES, scorer=scorer()), search=QUICK),  # type: ignore[has-type]
    "disco": disco,
}
QUICK = stylegan.Search(candidates=2, projection=2)

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
IMAGES = {
    "redraw": InputImages(image=PICTURE),
    "inpaint": InputImages(image=PICTURE, region=torch.ones(1, 1, 32, 32)),
    "blend": InputImages(references=(PICTURE, PICTURE + 0.1), weights=(1.0, 2.0)),
}


def paint(painter: Painter, images: InputImages, monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    """Every verb of a painter on the GPU."""
    brief = Brief.of(**{"prompt": "a cat", "seed": 1, "steps": 3, "native": True, **fields})
    monkeypatch.setattr(Schedule, "time_fraction", lambda _, strength: strength)  # which numpy computes
    with pretended(monkeypatch):
        painter.place(GPU)
        resolved = brief.resolve(painter.card)
        conditioning = painter.condition(resolved, images)
        assert conditioning.tokens.device == GPU
        for canvas in painter.steps(
            resolved, conditioning, painter.begin(resolved, conditioning, Seeds.of(1, 2))
        ):
            assert canvas.state.device == GPU
            assert painter.preview(canvas).device.type == "cpu"
        pixels = painter.finish(canvas)
        assert pixels.device.type == painter.upscale(pixels).device.type == "cpu"


@pytest.mark.parametrize("fields", FIELDS.values(), ids=list(FIELDS))
def test_painting(fields: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    paint(random_painter(), NO_IMAGES, monkeypatch, **fields)


@pytest.mark.parametrize("images", IMAGES.values(), ids=list(IMAGES))
def test_painting_from_pictures(images: InputImages, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(random_painter(), images, monkeypatch, strength=0.7)


def weights_of(part: object) -> Iterator[nn.Parameter]:
    """All weights of a painter, however deep."""
    if isinstance(part, nn.Module):
        yield from part.parameters()
    elif isinstance(part, dict | tuple):
        for each in part.values() if isinstance(part, dict) else part:
            yield from weights_of(each)
    elif is_dataclass(part) or hasattr(part, "vae"):
        for each in vars(part).values():
            yield from weights_of(each)


@pytest.mark.parametrize("name", PAINTERS)
@pytest.mark.parametrize("verb", ["words", "negative", "redraw", "inpaint", "blend"])
def test_every_family_paints(name: str, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    painter = PAINTERS[name]()
    can, (height, width) = painter.card.can, (painter.card.height, painter.card.width)
    if (
        not {"words": set(), "negative": {Can.NEGATIVE}, "inpaint": {Can.INPAINT}}.get(verb, {Can.REDRAW})
        <= can
    ):
        pytest.skip(f"{name} cannot")
    picture = torch.zeros(1, 4, height, width)
    images = {
        "redraw": InputImages(image=picture),
        "inpaint": InputImages(image=picture, region=torch.ones(1, 1, height, width)),
        "blend": InputImages(references=(picture, picture + 0.1), weights=(1.0, 2.0)),
    }
    negative = {"negative_prompt": "a dog"} if verb == "negative" else {}
    strength = {"strength": 0.7} if verb in images else {}
    paint(painter, images.get(verb, NO_IMAGES), monkeypatch, **negative, **strength)


@pytest.mark.parametrize("name", PAINTERS)
def test_every_family_paints_in_half_precision(name: str) -> None:
    """In bfloat16, of 8 bits, what comes out is float32 and near what float32 paints."""
    painter = PAINTERS[name]()
    brief = Brief.of(prompt="a cat", seed=1, steps=3, native=True).resolve(painter.card)

    def painted() -> Tensor:
        conditioning = painter.condition(brief)
        *_, canvas = painter.steps(brief, conditioning, painter.begin(brief, conditioning, Seeds.of(1, 2)))
        return painter.upscale(painter.finish(canvas))

    exact = painted()
    painter.place(torch.device("cpu"), torch.bfloat16)
    rounded = painted()
    assert exact.dtype == rounded.dtype == torch.float32
    assert exact.shape == rounded.shape
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().mean() < 0.02
    painter.place(torch.device("cpu"))
    assert {weight.dtype for weight in weights_of(painter)} == {torch.float32}


def test_painting_with_what_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = random_painter()
    with attach(painter, {random_adapter(painter): 0.7}):
        paint(painter, NO_IMAGES, monkeypatch)


@pytest.mark.filterwarnings("ignore:the depth map is the same everywhere")
def test_painting_beside_a_depth_map(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = random_painter("sd2-depth-tiny")
    sides = painter.card.height, painter.card.width
    images = InputImages(image=torch.zeros(1, 3, *sides), depth=torch.rand(1, 1, *sides))
    paint(painter, images, monkeypatch, strength=0.7)


def test_painting_under_control_and_beside_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ControlNet, a T2I-Adapter and an IP-Adapter with its image encoder go where the painter is."""
    components = tiny(SD1)
    unet, painter = components.unet, stable_diffusion_of(components)
    save_file(ip_adapter(unet), tmp_path / "ip.safetensors")
    adapter, encoder = read_ip_adapter(tmp_path / "ip.safetensors", unet), image_encoder()
    pixels = torch.rand(1, 3, 64, 64)
    controls = [Control(network, pixels, 0.7) for network in (controlnet_for(unet), t2i_adapter(unet))]
    brief = Brief(prompt="a cat", seed=1, steps=2, width=64, height=64).resolve(painter.card)
    with pretended(monkeypatch):
        painter.place(GPU)
        for network in (adapter, encoder, *(control.network for control in controls)):
            place_beside(unet, network)
        tokens, empty = tokens_of(Image.new("RGB", (40, 50), "red"), adapter, encoder)
        words = painter.condition(brief)
        prompted, words = with_image_prompts(painter, [ImagePrompt(adapter, tokens, empty)], brief, words)
        controlled = with_controls(prompted, controls, brief, words)
        *_, canvas = controlled.steps(brief, words, controlled.begin(brief, words, Seeds.of(1, 2)))
        assert canvas.state.device == GPU


def test_enlarging_by_painting(monkeypatch: pytest.MonkeyPatch) -> None:
    components = random_components("sd2-x4-tiny")
    painter = x4_of(components, components.scheduler)
    brief = Brief(prompt="a cat", seed=1, steps=2).resolve(painter.card)
    with pretended(monkeypatch):
        painter.place(GPU)
        *_, large = painter.repaint(torch.zeros(1, 3, 8, 8), brief)
        assert large.shape == (1, 3, 32, 32)
        assert large.device.type == "cpu"


def test_editing(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = random_painter()
    brief = Brief(prompt="a cat", seed=1, steps=2, native=True, sampler="ddim").resolve(painter.card)
    with pretended(monkeypatch):
        painter.place(GPU)
        canvas = edit_by_inversion(painter, PICTURE, brief, brief.model_copy(update={"prompt": "a dog"}))
        assert canvas.state.device == GPU


# ---- the choice


def test_measuring_a_vae(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = random_painter()
    with pretended(monkeypatch) as mode:
        painter.place(GPU)
        assert vae_figures(painter.vae, mode.from_tensor(torch.zeros(2, 4, 32, 32)))


def test_the_choice_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device() == resolve_device("auto") == torch.device("cuda:0")
    assert resolve_device("cuda") == torch.device("cuda")
    with pytest.raises(BadBrief, match="device 'cuda:1' is not there"):
        resolve_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device() == torch.device("cpu")
    with pytest.raises(BadBrief, match="device 'cuda' is not there"):
        resolve_device("cuda")
    with pytest.raises(BadBrief, match="unknown device 'gpu': use auto"):
        resolve_device("gpu")
    with pytest.raises(BadBrief, match="unknown device 'meta': use auto"):
        resolve_device("meta")


def test_the_choice_of_a_dtype() -> None:
    assert resolve_dtype(None) is None
    assert resolve_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(BadBrief, match="unknown dtype 'int8': use float32, bf16 or fp16"):
        resolve_dtype("int8")


def test_a_device_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--device", "cuda:9", "paint", "a cat"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert "device 'cuda:9' is not there" in line
    assert run(["--device", "cpu", "models"]) == 0
