"""Folders of weights: what is written is read back, and what is wrong is said in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from danqing.apps.inpaint import inpaint
from danqing.apps.paint import paint
from danqing.core.card import Can
from danqing.core.errors import BadWeights, DanqingError
from danqing.families import open_painter
from danqing.families.stable_diffusion.painter import random_components
from danqing.weights.diffusers_folder import StableDiffusionComponents, read_folder, save_folder

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def components() -> StableDiffusionComponents:
    return random_components()


@pytest.fixture(scope="module")
def saved(components: StableDiffusionComponents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(components, folder, torch.float32)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def same(a: Any, b: Any) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_round_trip_is_exact(components: StableDiffusionComponents, saved: Path) -> None:
    again = read_folder(saved)
    assert same(components.unet, again.unet)
    assert same(components.vae, again.vae)
    assert same(components.text_encoder, again.text_encoder)
    assert same(components.upscaler, again.upscaler)
    assert again.card == components.card
    assert again.tokenizer("a red panda 熊猫").input_ids == components.tokenizer("a red panda 熊猫").input_ids
    assert not again.unet.training


def test_half_precision_is_read_as_float32(components: StableDiffusionComponents, tmp_path: Path) -> None:
    save_folder(components, tmp_path / "half")
    assert load_file(tmp_path / "half" / UNET)["conv_in.weight"].dtype == torch.float16
    again = read_folder(tmp_path / "half")
    assert {p.dtype for p in again.unet.parameters()} == {torch.float32}
    torch.testing.assert_close(
        again.unet.conv_in.weight, components.unet.conv_in.weight, rtol=1e-3, atol=1e-4
    )


def test_files_on_disk_are_what_other_programs_expect(saved: Path) -> None:
    assert all(name.startswith("text_model.") for name in load_file(saved / TEXT))
    with safe_open(saved / UNET, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    scheduler = json.loads((saved / "scheduler" / "scheduler_config.json").read_text())
    assert {"beta_start", "set_alpha_to_one", "timestep_spacing", "prediction_type"} <= scheduler.keys()


def test_saving_replaces_and_leaves_nothing_behind(
    components: StableDiffusionComponents, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    save_folder(components, tmp_path / "model")
    assert not (tmp_path / "model" / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_folder(tmp_path: Path) -> None:
    broken = random_components()
    broken.unet.conv_in.weight.data.mul_(1e9)  # too large for float16
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with pytest.raises(BadWeights, match=r"conv_in\.weight is not finite in torch\.float16.*float32"):
        save_folder(broken, tmp_path / "model")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]


def test_saving_where_no_folder_can_be(components: StableDiffusionComponents, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DanqingError, match="choose another place"):
        save_folder(components, tmp_path / "file" / "model")


def test_old_names_are_read(components: StableDiffusionComponents, folder: Path) -> None:
    text = {name.removeprefix("text_model."): value for name, value in load_file(folder / TEXT).items()}
    save_file({**text, "embeddings.position_ids": torch.arange(16)[None]}, folder / TEXT)
    assert same(read_folder(folder).text_encoder, components.text_encoder)


def test_old_attention_names_of_the_vae() -> None:
    from danqing.weights.components import attention_key

    assert (
        attention_key("encoder.mid_block.attentions.0.query.weight")
        == "encoder.mid_block.attentions.0.to_q.weight"
    )
    assert (
        attention_key("decoder.mid_block.attentions.0.proj_attn.bias")
        == "decoder.mid_block.attentions.0.to_out.0.bias"
    )
    assert attention_key("encoder.conv_in.weight") == "encoder.conv_in.weight"


def test_a_card_is_derived_where_none_is(folder: Path) -> None:
    (folder / "card.json").unlink()
    shutil.rmtree(folder / "upscaler")
    card = open_painter(str(folder)).card
    assert (card.name, card.width, card.height, card.size_multiple, card.scale) == ("copy", 32, 32, 16, 1)
    assert card.can == set(Can) - {Can.UPSCALE}


def test_preview_map_travels(components: StableDiffusionComponents, tmp_path: Path) -> None:
    from dataclasses import replace

    save_folder(replace(components, latent_rgb=torch.rand(9, 3)), tmp_path / "model")
    painter = open_painter(str(tmp_path / "model"))
    assert painter.latent_rgb.shape == (9, 3)


# ---- one fault each


def cut(path: Path, to: int) -> None:
    path.write_bytes(path.read_bytes()[:to])


def edit(path: Path, change: Callable[..., Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def configure(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def to_pickle(folder: Path) -> None:
    (folder / UNET).unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").touch()


def poison(tensors: dict[str, Tensor]) -> None:
    tensors["conv_in.bias"][0] = float("nan")


FAULTS = {
    "truncated": (lambda f: cut(f / UNET, 5000), "truncated or not safetensors"),
    "empty": (lambda f: cut(f / UNET, 0), "truncated or not safetensors"),
    "not safetensors": (lambda f: (f / VAE).write_bytes(b"nothing" * 99), "truncated or not safetensors"),
    "a page": (lambda f: (f / VAE).write_bytes(b"\n<html>" * 99), "is a web page: log in"),
    "pickle": (to_pickle, r"diffusion_pytorch_model\.bin' is a pickle.*danqing models convert"),
    "no weights": (
        lambda f: (f / TEXT).unlink(),
        r"no diffusion_pytorch_model.safetensors or model.safetensors",
    ),
    "nan": (lambda f: edit(f / UNET, poison), r"conv_in\.bias holds NaN"),
    "missing key": (lambda f: edit(f / UNET, lambda t: t.pop("conv_out.weight")), r"lacks conv_out\.weight"),
    "unexpected key": (
        lambda f: edit(f / VAE, lambda t: t.update(extra=torch.zeros(1))),
        "has extra, which the network does not know",
    ),
    "wrong shape": (
        lambda f: edit(f / UNET, lambda t: t.update({"conv_in.bias": torch.zeros(3)})),
        r"conv_in\.bias of shape \[3\] for \[16\]",
    ),
    "no part": (lambda f: shutil.rmtree(f / "vae"), r"vae/config\.json' is missing"),
    "no index": (lambda f: (f / "model_index.json").unlink(), r"model_index\.json' is missing"),
    "broken config": (lambda f: cut(f / "unet" / "config.json", 20), "cannot be read as JSON"),
    "config is a list": (lambda f: (f / "unet" / "config.json").write_text("[]"), "holds no JSON object"),
    "unknown block": (
        lambda f: configure(f / "unet" / "config.json", down_block_types=["Nonsense", "DownBlock2D"]),
        "describes no known network: Nonsense",
    ),
    "another text encoder": (
        lambda f: configure(f / "text_encoder" / "config.json", model_type="t5"),
        "model_type 't5', not clip_text_model",
    ),
    "SD3": (
        lambda f: configure(f / "model_index.json", _class_name="StableDiffusion3Pipeline"),
        "holds Stable Diffusion 3",
    ),
    "Flux": (lambda f: configure(f / "model_index.json", _class_name="FluxPipeline"), r"holds FLUX\.1"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), r"no tokenizer\.json, or vocab\.json"),
    "no merges": (
        lambda f: [(f / "tokenizer" / name).unlink() for name in ("tokenizer.json", "merges.txt")],
        r"vocab\.json with merges\.txt, in",
    ),
    "broken tokenizer": (lambda f: cut(f / "tokenizer" / "tokenizer.json", 50), "tokenizer' cannot be read"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), r"scheduler_config\.json' is missing"),
    "unknown prediction": (
        lambda f: configure(f / "scheduler" / "scheduler_config.json", prediction_type="flow"),
        "unknown prediction_type 'flow'",
    ),
    "unknown schedule": (
        lambda f: configure(f / "scheduler" / "scheduler_config.json", beta_schedule="sigmoid"),
        "unknown beta_schedule 'sigmoid'",
    ),
    "card": (
        lambda f: configure(f / "card.json", width="wide"),
        r"card\.json': width is 'wide': input should be a valid int",
    ),
    "unknown family": (lambda f: configure(f / "card.json", family="sorcery"), "unknown family 'sorcery'"),
}


@pytest.mark.parametrize(("damage", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_named_in_one_line(folder: Path, damage: Callable[..., Any], message: str) -> None:
    damage(folder)
    with pytest.raises(BadWeights, match=message) as caught:
        open_painter(str(folder))
    assert "\n" not in str(caught.value)


def test_an_editing_unet_is_refused_and_an_inpainting_unet_paints(
    components: StableDiffusionComponents, folder: Path
) -> None:
    from diffusers import UNet2DConditionModel

    for channels in (16, 17):
        unet = UNet2DConditionModel.from_config(components.unet.config, in_channels=channels)
        configure(folder / "unet" / "config.json", in_channels=channels)
        save_file(unet.state_dict(), folder / UNET)
        if channels == 16:
            with pytest.raises(BadWeights, match="an editing UNet: it takes 16 channels, the vae gives 8"):
                open_painter(str(folder))
    painter = open_painter(str(folder))
    [plain] = paint("a cat", painter=painter, steps=2, seed=1, native=True)
    assert plain.image.size == (32, 32)
    before, mask = Image.new("RGB", (128, 128), "red"), Image.new("L", (128, 128))
    mask.paste(255, (32, 32, 96, 96))
    [picture] = inpaint(before, "a cat", mask=mask, painter=painter, steps=2, seed=1)
    kept = np.asarray(mask) == 0
    assert (np.asarray(picture.image)[kept] == np.asarray(before)[kept]).all()


@pytest.mark.parametrize("name", ["no-such-model", "./nowhere"])
def test_unknown_models(name: str) -> None:
    with pytest.raises(BadWeights, match=r"unknown model .* give a folder of weights or a \.safetensors"):
        open_painter(name)


def test_one_part_is_not_a_model(saved: Path) -> None:
    with pytest.raises(BadWeights, match="is a denoising network alone: give the whole model"):
        open_painter(str(saved / UNET))
