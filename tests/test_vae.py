"""Another VAE for a model, and numbers of half the size that never end in a black picture."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from danqing import Picture, Session, paint
from danqing.apps import NamedSession, find_app
from danqing.core.device import resolve_dtype
from danqing.core.errors import BadBrief, BadWeights, NotFinite
from danqing.diffusion.vae import DiffusersVAE
from danqing.interfaces.cli import main as cli
from danqing.interfaces.cli.show import _command
from danqing.weights.components import OLD_ATTENTION
from danqing.weights.ldm_keys import rename, vae_table
from danqing.weights.vae import read_vae
from tests.single_files import SD1, original, tiny

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "seed": 3, "model": "tiny.safetensors"}
PARTS = tiny(SD1)


def another(**changes: Any) -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return AutoencoderKL.from_config(PARTS.vae.config, **changes).eval()


VAE = another()


def contiguous(tensors: dict[str, Tensor] | dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def old_names(tensors: dict[str, Any]) -> dict[str, Tensor]:
    for new, old in OLD_ATTENTION.items():
        tensors = {name.replace(f".{old}.", f".{new}."): tensor for name, tensor in tensors.items()}
    return tensors


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion 1 and one VAE in every layout."""
    folder = tmp_path_factory.mktemp("vae")
    save_file(contiguous(original(PARTS)), folder / "tiny.safetensors")
    PARTS.tokenizer.save_pretrained(folder / "tokenizer")
    state = VAE.state_dict()
    table = vae_table(VAE.config)
    named = {rename(table, name): tensor for name, tensor in state.items()}
    save_file(contiguous(named), folder / "ldm.safetensors")
    save_file(contiguous(state), folder / "new.safetensors")
    save_file(contiguous(old_names(state)), folder / "old.safetensors")
    save_file(contiguous(original(replace(PARTS, vae=VAE))), folder / "whole.safetensors")
    VAE.save_pretrained(folder / "folder")
    VAE.save_pretrained(folder / "model" / "vae")
    another(latent_channels=8).save_pretrained(folder / "eight")
    save_file({"emb_params": torch.ones(2, 768)}, folder / "word.safetensors")
    return folder


@pytest.fixture
def session(place: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.chdir(place)
    return Session()


@pytest.mark.parametrize("name", ["ldm", "new", "old", "whole"])
def test_files(place: Path, name: str) -> None:
    found = read_vae(place / f"{name}.safetensors", 0.18215)
    wanted = VAE.state_dict()
    assert found.state_dict().keys() == wanted.keys()
    assert all(torch.equal(found.state_dict()[key], tensor) for key, tensor in wanted.items())
    assert found.config.scaling_factor == 0.18215


@pytest.mark.parametrize("name", ["folder", "model"])
def test_folders(place: Path, name: str) -> None:
    found = read_vae(place / name, 9.0)
    assert found.config.scaling_factor == VAE.config.scaling_factor
    assert torch.equal(found.decoder.conv_in.weight, VAE.decoder.conv_in.weight)


def test_painting_with_another(session: Session) -> None:
    """As if the model had it; the picture keeps it, and its command paints the same."""
    [plain] = paint("a fox", session=session, **SMALL)
    [other] = paint("a fox", vae="ldm.safetensors", session=session, **SMALL)
    [whole] = paint("a fox", session=session, **{**SMALL, "model": "whole.safetensors"})
    [again] = paint("a fox", session=session, **SMALL)
    assert other.image.tobytes() == whole.image.tobytes() != plain.image.tobytes()
    assert again.image.tobytes() == plain.image.tobytes()
    assert other.brief.vae == "ldm.safetensors"
    other.save("kept.png")
    line = shlex.split(_command(Picture.open("kept.png")))
    assert line[line.index("--vae") + 1] == "ldm.safetensors"
    assert cli.run([*line[1:], "--out", "again.png", "--quiet"]) == 0
    assert Picture.open("again.png").image.tobytes() == other.image.tobytes()
    [redrawn] = find_app("redraw")("kept.png", "a cat", steps=2, session=session)
    assert redrawn.brief.vae == "ldm.safetensors"  # it goes on with what painted it


def test_what_is_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadBrief, match="vae 'eight' has channels 8, model 'tiny' 4: choose one for this"):
        paint("a", vae="eight", session=session, **SMALL)
    with pytest.raises(BadWeights, match="is a learned word of Stable Diffusion 1: give a VAE"):
        paint("a", vae="word.safetensors", session=session, **SMALL)
    with pytest.raises(BadBrief, match="model 'gan' has no VAE to change: leave vae out"):
        paint("a number 3", model="gan", vae="ldm.safetensors", session=session, seed=1)
    with pytest.raises(BadBrief, match=r"unknown VAE .ldm.safetensors."):  # no path on a server
        NamedSession().vae_place("ldm.safetensors")
    monkeypatch.setattr("danqing.families.open_painter", lambda *_: pytest.fail("opened"))
    with pytest.raises(BadBrief, match="unknown VAE 'nowhere'"):
        find_app("redraw").parse(
            {
                "image": Image.new("RGB", (64, 64)),
                "prompt": "a",
                "vae": "nowhere",
                "model": "tiny.safetensors",
            },
            Session(),
        )


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16), ("half", torch.float16)],
)
def test_names_of_numbers(name: str, dtype: Any) -> None:
    assert resolve_dtype(name) is dtype


def test_half_precision_on_the_command_line(session: Session) -> None:  # noqa: ARG001  for its folder
    """Close to what float32 paints, and not the same."""
    line = "paint fox --model tiny.safetensors --steps 2 --seed 3 --width 64 --height 64 --quiet --out"
    for dtype in ("float32", "bf16"):
        assert cli.run(["--dtype", dtype, *line.split(), f"{dtype}.png"]) == 0
    full, half = (torch.tensor(list(Picture.open(f"{d}.png").image.tobytes())) for d in ("float32", "bf16"))
    assert 0 < (full - half).abs().float().mean() < 8
    assert cli.run(["--dtype", "int4", *line.split(), "no.png"]) == 2


def test_an_autoencoder_that_overflows_decodes_and_encodes_in_float32() -> None:
    """Numbers beyond 65504 in half precision would be a black picture."""
    wide = another()
    with torch.no_grad():
        for layer in (wide.post_quant_conv, wide.encoder.conv_in):
            layer.weight.mul_(6e4 / layer.weight.abs().max())
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = DiffusersVAE(wide).decode(latents), DiffusersVAE(wide).encode(pixels)
    half = another()
    half.load_state_dict(wide.state_dict())
    half.to(torch.float16)
    assert not half.decode((latents / 0.18215).half()).sample.isfinite().all()
    decoded = DiffusersVAE(half).decode(latents)
    torch.testing.assert_close(decoded, expected[0], rtol=0.02, atol=0.02)
    assert half.dtype == torch.float32
    half.to(torch.float16)
    torch.testing.assert_close(DiffusersVAE(half).encode(pixels), expected[1], rtol=0.02, atol=0.02)


def test_a_picture_that_is_not_finite_is_never_painted() -> None:
    broken = another()
    with torch.no_grad():
        broken.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(NotFinite, match=r"its weight vae.decoder.conv_out.bias is not finite either"):
        DiffusersVAE(broken).decode(torch.zeros(1, 4, 4, 4))
