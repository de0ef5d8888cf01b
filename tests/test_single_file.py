"""One file of weights: what is wrong with it is said in one line, with the fix."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from danqing.apps.inpaint import inpaint
from danqing.core.card import Can
from danqing.core.errors import BadWeights
from danqing.core.picture import Picture
from danqing.families import open_painter
from danqing.families.stable_diffusion.painter import byte_tokenizer
from danqing.interfaces.cli.main import run
from danqing.weights.clip_vocabulary import clip_tokenizer
from danqing.weights.single_file import read_single_file
from tests.single_files import SD2, original, tiny

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
CONV_IN = f"{UNET}input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    return {name: tensor.clone().contiguous() for name, tensor in original(tiny()).items()}


@pytest.fixture
def file(whole: dict[str, Tensor], tmp_path: Path) -> Path:
    """A model that is fine, with its tokenizer beside it."""
    save_file(whole, tmp_path / "model.safetensors")
    byte_tokenizer(77).save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "model.safetensors"


def test_the_command_line_paints_with_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    ask = "paint cat --model model.safetensors --width 64 --height 64 --steps 2 --out a.png"
    assert run(ask.split()) == 0, capsys.readouterr().err
    assert Picture.open("a.png").brief.model == "model.safetensors"


def test_its_card(file: Path) -> None:
    card = open_painter(str(file)).card
    assert (card.name, card.width, card.height, card.size_multiple) == ("model", 512, 512, 64)
    assert card.summary == "Stable Diffusion 1 for pictures of 512 x 512"
    assert card.can == set(Can) - {Can.ALPHA, Can.UPSCALE}


# ---- what it predicts

PREDICTIONS = {
    "nothing": (None, None, "epsilon"),
    "metadata": (None, "v", "v_prediction"),
    "metadata says epsilon": (None, "epsilon", "epsilon"),
    "beside": ({"prediction_type": "v_prediction"}, None, "v_prediction"),
    "beside before metadata": ({"prediction_type": "epsilon"}, "v", "epsilon"),
    "beside, of another program": ({"description": "mine"}, "v", "v_prediction"),
}


@pytest.mark.parametrize(("sidecar", "metadata", "prediction"), PREDICTIONS.values(), ids=PREDICTIONS.keys())
def test_what_it_predicts(
    file: Path,
    whole: dict[str, Tensor],
    sidecar: dict[str, str] | None,
    metadata: str | None,
    prediction: str,
) -> None:
    if metadata:
        save_file(whole, file, {"modelspec.prediction_type": metadata})
    if sidecar:
        file.with_suffix(".json").write_text(json.dumps(sidecar))
    assert open_painter(str(file)).prediction == prediction


# ---- one fault each


def holds(**tensors: Any) -> Callable[..., Any]:
    """A file of nothing but these names, dots written as __."""
    named = {name.replace("__", "."): torch.zeros(2) if t is None else t for name, t in tensors.items()}
    return lambda file: save_file(named, file)


def edit(change: Callable[..., Any]) -> Callable[..., Any]:
    def do(file: Path) -> None:
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return do


def channels(count: int) -> Callable[..., Any]:
    return edit(lambda t: t.update({CONV_IN: torch.zeros(32, count, 3, 3)}))


def without(head: tuple[str, str] | str) -> Callable[..., Any]:
    return edit(lambda t: [t.pop(name) for name in list(t) if name.startswith(head)])


def put(name: str, *shape: int) -> Callable[..., Any]:
    return edit(lambda t: t.update({name: torch.zeros(shape)}))


def rename_to(name: str) -> Callable[..., Any]:
    return lambda file: file.rename(file.with_name(name))


def poison(tensors: dict[str, Tensor]) -> None:
    tensors[f"{VAE}decoder.conv_in.bias"][0] = float("nan")


def forget(name: str) -> Callable[..., Any]:
    return lambda file: (file.parent / "tokenizer" / name).unlink()


def no_tokenizer(file: Path) -> None:
    (file.parent / "tokenizer").rename(file.parent / "elsewhere")


ONLY = "only Stable Diffusion 1, 2 and XL can be opened"
FAULTS = {
    "truncated": (lambda f: f.write_bytes(f.read_bytes()[:90000]), "truncated or not safetensors.*fetch it"),
    "empty": (lambda f: f.write_bytes(b""), "truncated or not safetensors"),
    "a page": (lambda f: f.write_bytes(b"<html>" * 99), "is a web page"),
    "ckpt": (rename_to("model.ckpt"), "model.ckpt' is a pickle.*danqing models convert"),
    "pt": (rename_to("model.PT"), "model.PT' is a pickle"),
    "no tensors": (holds(), f"holds no tensors: {ONLY}"),
    "something else": (holds(layer__weight=None), f"another program, such as layer.weight: {ONLY}"),
    "nan": (edit(poison), r"first_stage_model\.decoder\.conv_in\.bias holds NaN.*another copy"),
    "SD3": (holds(model__diffusion_model__joint_blocks__0__x=None), f"is Stable Diffusion 3: {ONLY}"),
    "Flux": (holds(double_blocks__0__img_attn__qkv__weight=None), rf"is FLUX\.1: {ONLY}"),
    "kohya LoRA": (
        holds(lora_unet_mid_block__lora_down__weight=None),
        "is a LoRA and no model: give the model that it changes, and this with --adapter",
    ),
    "peft LoRA": (holds(unet__mid_block__to_q__lora_A__weight=None), "is a LoRA and no model"),
    "old LoRA": (holds(unet__attn1__processor__to_q_lora__down__weight=None), "is a LoRA and no model"),
    "ControlNet": (holds(control_model__input_blocks__0__0__weight=None), "is a ControlNet and no model"),
    "a UNet of a folder": (
        holds(down_blocks__0__x=None),
        "is a denoising network alone: give the whole model, its folder or its file",
    ),
    "VAE of a folder": (holds(encoder__conv_in__weight=None), "is a VAE alone: give the whole"),
    "VAE": (
        without(("model", "cond")),
        "is a VAE of .* 1, 2 or XL alone: give the whole",
    ),
    "no VAE": (
        without(VAE),
        r"holds no VAE: put one .* as 'model\.vae\.safetensors'",
    ),
    "no text encoder": (without("cond"), "holds no text encoder: give a copy"),
    "text encoder alone": (holds(text_model__embeddings__x=None), "is a text encoder of CLIP alone"),
    "textual inversion": (holds(emb_params=None), "is a learned word and no model"),
    "BERT": (
        lambda f: (without(TEXT)(f), put("cond_stage_model.transformer_x.y", 2)(f)),
        "text encoder of another kind",
    ),
    "instruct-pix2pix": (
        channels(8),
        r"is an instruct-pix2pix model \(the UNet takes 8 channels, the latents have 4\)",
    ),
    "upscaler": (channels(7), "is an upscaler"),
    "other latents": (channels(16), "is of a UNet and another model's VAE"),
    "missing key": (
        without(f"{UNET}output_blocks.3.1.norm.bias"),
        r"lacks model\.diffusion_model\.output_blocks\.3\.1\.norm\.bias \(missing\): only",
    ),
    "missing key that tells a width": (
        without(f"{VAE}encoder.down.2.block.0.conv1.weight"),
        r"lacks first_stage_model\.encoder\.down\.2\.block\.0\.conv1\.weight.*fetch it again",
    ),
    "unexpected key": (put(f"{UNET}extra.0.weight", 3), r"has .*extra.* does not know"),
    "wrong shape": (put(f"{VAE}quant_conv.bias", 3), r"quant_conv\.bias of shape \[3\] for \[8\]"),
    "scalar": (put(f"{UNET}out.2.weight"), r"has model\.diffusion_model\.out\.2\.weight of shape \[\]"),
    "no groups of 32": (
        put(f"{UNET}input_blocks.1.0.out_layers.3.weight", 33, 32, 3, 3),
        r"model\.diffusion_model\.\* describes no known network",
    ),
    "words of another width": (
        put(f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight", 96, 1024),
        "the UNet wants words of width 1024, the text encoder gives 64",
    ),
    "no tokenizer": (
        no_tokenizer,
        r"model\.safetensors' knows 514 tokens, CLIP has 49408: put the tokenizer folder .*tokenizer'",
    ),
    "half a tokenizer": (forget("tokenizer.json"), r"no tokenizer\.json, or vocab\.json with merges\.txt"),
    "another tokenizer": (
        put(f"{TEXT}embeddings.token_embedding.weight", 49409, 64),
        "knows 49409 tokens, CLIP has 49408: put the tokenizer folder",
    ),
    "prediction": (
        lambda f: f.with_suffix(".json").write_text('{"prediction_type": "flow"}'),
        r"model\.safetensors': unknown prediction_type 'flow'",
    ),
    "broken json": (lambda f: f.with_suffix(".json").write_text("{"), r"model\.json' cannot be read as JSON"),
}


@pytest.mark.parametrize(("damage", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_named_in_one_line(file: Path, damage: Callable[..., Any], message: str) -> None:
    damage(file)
    (path,) = [p for p in file.parent.iterdir() if p.stem == "model" and p.suffix != ".json"]
    with pytest.raises(BadWeights, match=message) as caught:
        open_painter(str(path))
    assert "\n" not in str(caught.value)
    assert re.search("model|tokenizer", str(caught.value)), "it names a file"


# ---- CLIP's vocabulary


def test_the_vocabulary_of_clip() -> None:
    """Ids as in every published Stable Diffusion."""
    tokenizer = clip_tokenizer()
    assert (len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id) == (49408, 49406, 49407)
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("a", padding="max_length").input_ids == [49406, 320, *[49407] * 75]
    assert clip_tokenizer("!")("a", padding="max_length").input_ids == [49406, 320, 49407, *[0] * 74]


def test_a_file_needs_no_tokenizer_beside_it(whole: dict[str, Tensor], tmp_path: Path) -> None:
    rows = torch.randn(49408, 64)
    name = f"{TEXT}embeddings.token_embedding.weight"
    save_file({**whole, name: rows}, tmp_path / "model.safetensors")
    assert len(open_painter(str(tmp_path / "model.safetensors")).text.tokenizer) == 49408


# ---- what stands beside the file

V_PREDICTION = "v_prediction"
YAML = "model: {params: {parameterization: v}}"
V = {"prediction_type": V_PREDICTION, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@pytest.mark.parametrize(
    ("beside", "fields"),
    [
        ({"model.json": json.dumps(V)}, V),
        (
            {"model.json": json.dumps({"prediction_type": "v", "notes": "mine"})},
            {"prediction_type": V_PREDICTION},
        ),
        ({"model.yaml": "model: {params: {parameterization: v}}"}, {"prediction_type": V_PREDICTION}),
        (
            {"model.yaml": "model: {params: {parameterization: v, linear_start: 0.001}}", "model.json": "{}"},
            {"prediction_type": V_PREDICTION, "beta_start": 0.001},
        ),
        (
            {
                "model.yaml": "model: {params: {parameterization: v}}",
                "model.json": '{"prediction_type": "epsilon"}',
            },
            {"prediction_type": "epsilon"},
        ),
    ],
)
def test_what_stands_beside_is_read(file: Path, beside: dict[str, str], fields: dict[str, Any]) -> None:
    for name, text in beside.items():
        (file.parent / name).write_text(text)
    assert fields.items() <= read_single_file(file).scheduler.items()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "model.json",
            '{"timestep_spacing": 3}',
            r"model\.json': timestep_spacing is 3: input should",
        ),
        ("model.json", '{"rescale_betas_zero_snr": "yes"}', "rescale_betas_zero_snr is 'yes'"),
        ("model.yaml", "model: [", r"model\.yaml' is no config of latent diffusion"),
        ("model.yaml", "just text", r"model\.yaml' is no config of latent diffusion"),
        ("model.yaml", "model: {params: {linear_end: 7}}", r"model\.yaml': beta_end is 7"),
    ],
)
def test_what_stands_beside_and_is_wrong(file: Path, name: str, text: str, message: str) -> None:
    (file.parent / name).write_text(text)
    with pytest.raises(BadWeights, match=message):
        open_painter(str(file))


def test_keys_that_fine_tunes_leave(file: Path, whole: dict[str, Tensor]) -> None:
    save_file({**whole, "v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}, file)
    assert V.items() <= read_single_file(file).scheduler.items()


@pytest.mark.parametrize(("spread", "prediction"), [(0.02, "epsilon"), (0.2, "v_prediction")])
def test_stable_diffusion_2_tells_by_its_weights(file: Path, spread: float, prediction: str) -> None:
    tensors = {name: t.contiguous() for name, t in original(tiny(SD2), SD2).items()}
    name = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
    tensors[name] = torch.randn(len(tensors[name])) * spread
    save_file(tensors, file)
    card = open_painter(str(file)).card
    assert read_single_file(file).scheduler["prediction_type"] == prediction
    assert card.width == (768 if prediction == "v_prediction" else 512)
    assert ("predicting v" in card.summary) == (prediction == "v_prediction")


# ---- without a VAE, and with more channels


@pytest.mark.parametrize("naming", ["", VAE])
def test_an_autoencoder_beside_the_file(file: Path, whole: dict[str, Tensor], naming: str) -> None:
    inside = {name: tensor for name, tensor in whole.items() if name.startswith(VAE)}
    save_file({name: tensor for name, tensor in whole.items() if name not in inside}, file)
    named = {naming + name.removeprefix(VAE): tensor for name, tensor in inside.items()}
    save_file(named, file.with_name("model.vae.safetensors"))
    vae = read_single_file(file).vae
    assert torch.equal(vae.quant_conv.bias, inside[f"{VAE}quant_conv.bias"])


def test_a_lora_is_no_vae(file: Path, whole: dict[str, Tensor]) -> None:
    save_file({name: t for name, t in whole.items() if not name.startswith(VAE)}, file)
    save_file(
        {"lora_unet_mid_block.lora_down.weight": torch.ones(1, 1)}, file.with_name("model.vae.safetensors")
    )
    with pytest.raises(BadWeights, match=r"model\.vae\.safetensors' is a LoRA: give a VAE"):
        open_painter(str(file))


def test_nine_channels_inpaint(file: Path, whole: dict[str, Tensor]) -> None:
    """Outside the mask, every byte is the picture's."""
    wide = torch.cat([whole[CONV_IN], torch.randn(32, 5, 3, 3)], dim=1)
    save_file({**whole, CONV_IN: wide}, file)
    painter = open_painter(str(file))
    before, mask = Image.new("RGB", (64, 64), "red"), Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    [picture] = inpaint(before, "a cat", mask=mask, painter=painter, steps=2, seed=1)
    kept = np.asarray(mask) == 0
    assert (np.asarray(picture.image)[kept] == np.asarray(before)[kept]).all()
