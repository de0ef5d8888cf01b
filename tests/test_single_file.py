"""One file of weights: what is wrong with it is said in one line, with the fix."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from danqing.core.card import Can
from danqing.core.errors import BadWeights
from danqing.core.picture import Picture
from danqing.families import open_painter
from danqing.families.stable_diffusion.painter import byte_tokenizer
from danqing.interfaces.cli.main import run
from danqing.weights.open_clip import open_clip_tokenizer
from tests.single_files import SD1, SD2, original, tiny

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
CONV_IN = f"{UNET}input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def whole():
    return {name: tensor.clone().contiguous() for name, tensor in original(tiny()).items()}


@pytest.fixture
def file(whole, tmp_path):
    """A model that is fine, with its tokenizer beside it."""
    save_file(whole, tmp_path / "model.safetensors")
    byte_tokenizer(77).save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "model.safetensors"


def test_the_command_line_paints_with_it(file, monkeypatch, capsys):
    monkeypatch.chdir(file.parent)
    ask = "paint cat --model model.safetensors --width 64 --height 64 --steps 2 --out a.png"
    assert run(ask.split()) == 0, capsys.readouterr().err
    assert Picture.open("a.png").brief.model == "model.safetensors"


def test_its_card(file):
    card = open_painter(str(file)).card
    assert (card.name, card.width, card.height, card.grid) == ("model", 512, 512, 64)
    assert card.summary == "Stable Diffusion 1 for pictures of 512 x 512"
    assert card.can == set(Can) - {Can.ALPHA, Can.ENLARGE}


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
def test_what_it_predicts(file, whole, sidecar, metadata, prediction):
    if metadata:
        save_file(whole, file, {"modelspec.prediction_type": metadata})
    if sidecar:
        file.with_suffix(".json").write_text(json.dumps(sidecar))
    assert open_painter(str(file)).prediction == prediction


def test_stable_diffusion_2_must_say(file):
    save_file({name: t.contiguous() for name, t in original(tiny(SD2), SD2).items()}, file)
    message = r"model\.safetensors' is Stable Diffusion 2 and does not say what it predicts.*model\.json'"
    with pytest.raises(BadWeights, match=message):
        open_painter(str(file))
    file.with_suffix(".json").write_text('{"prediction_type": "epsilon"}')
    painter = open_painter(str(file))
    assert (painter.prediction, painter.card.width) == ("epsilon", 512)
    assert painter.text.tokenizer.pad_token_id == painter.text.tokenizer.get_vocab()["!"]


# ---- one fault each


def holds(**tensors):
    """A file of nothing but these names, dots written as __."""
    named = {name.replace("__", "."): torch.zeros(2) if t is None else t for name, t in tensors.items()}
    return lambda file: save_file(named, file)


def edit(change):
    def do(file):
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return do


def channels(count):
    return edit(lambda t: t.update({CONV_IN: torch.zeros(32, count, 3, 3)}))


def without(head):
    return edit(lambda t: [t.pop(name) for name in list(t) if name.startswith(head)])


def put(name, *shape):
    return edit(lambda t: t.update({name: torch.zeros(shape)}))


def rename_to(name):
    return lambda file: file.rename(file.with_name(name))


def poison(tensors):
    tensors[f"{VAE}decoder.conv_in.bias"][0] = float("nan")


def forget(name):
    return lambda file: (file.parent / "tokenizer" / name).unlink()


def no_tokenizer(file):
    (file.parent / "tokenizer").rename(file.parent / "elsewhere")


ONLY = "only Stable Diffusion 1 and 2 can be opened"
FAULTS = {
    "truncated": (lambda f: f.write_bytes(f.read_bytes()[:90000]), "truncated or not safetensors.*fetch it"),
    "empty": (lambda f: f.write_bytes(b""), "truncated or not safetensors"),
    "a page": (lambda f: f.write_bytes(b"<html>" * 99), "truncated or not safetensors"),
    "ckpt": (rename_to("model.ckpt"), "model.ckpt' is a pickle.*convert it to safetensors"),
    "pt": (rename_to("model.PT"), "model.PT' is a pickle"),
    "no tensors": (holds(), f"holds no tensors: {ONLY}"),
    "something else": (holds(layer__weight=None), f"another program, such as layer.weight: {ONLY}"),
    "nan": (edit(poison), r"first_stage_model\.decoder\.conv_in\.bias holds NaN.*another copy"),
    "SDXL": (
        edit(lambda t: t.update({"conditioner.embedders.0.transformer.x": torch.zeros(1)})),
        f"is Stable Diffusion XL: {ONLY}",
    ),
    "SD3": (holds(model__diffusion_model__joint_blocks__0__x=None), f"is Stable Diffusion 3: {ONLY}"),
    "Flux": (holds(double_blocks__0__img_attn__qkv__weight=None), rf"is FLUX\.1: {ONLY}"),
    "kohya LoRA": (
        holds(lora_unet_mid_block__lora_down__weight=None),
        "is a LoRA and no model: give the model",
    ),
    "peft LoRA": (holds(unet__mid_block__to_q__lora_A__weight=None), "is a LoRA and no model"),
    "old LoRA": (holds(unet__attn1__processor__to_q_lora__down__weight=None), "is a LoRA and no model"),
    "ControlNet": (holds(control_model__input_blocks__0__0__weight=None), "is a ControlNet and no model"),
    "a UNet of a folder": (
        holds(down_blocks__0__x=None),
        "is one part of a diffusers folder: give the folder",
    ),
    "VAE of a folder": (holds(encoder__conv_in__weight=None), "is an autoencoder alone: give the whole"),
    "VAE": (without(("model", "cond")), "holds no UNet and no text encoder: give a copy of the whole model"),
    "no VAE": (without(VAE), "holds no autoencoder: give a copy of the whole model"),
    "no text encoder": (without("cond"), "holds no text encoder: give a copy"),
    "text encoder alone": (holds(text_model__embeddings__x=None), "is a text encoder alone"),
    "textual inversion": (holds(emb_params=None), "is a textual inversion and no model"),
    "BERT": (
        lambda f: (without(TEXT)(f), put("cond_stage_model.transformer_x.y", 2)(f)),
        "text encoder of another kind",
    ),
    "inpainting": (channels(9), r"is an inpainting model \(the UNet takes 9 channels, the latents have 4\)"),
    "instruct-pix2pix": (channels(8), "is an instruct-pix2pix model"),
    "upscaler": (channels(7), "is an upscaler"),
    "other latents": (channels(16), "is of a UNet and another model's autoencoder"),
    "missing key": (
        without(f"{UNET}output_blocks.3.1.norm.bias"),
        r"lacks model\.diffusion_model\.output_blocks\.3\.1\.norm\.bias \(missing\): only",
    ),
    "missing key that tells a width": (
        without(f"{VAE}encoder.down.2.block.0.conv1.weight"),
        r"lacks first_stage_model\.encoder\.down\.2\.block\.0\.conv1\.weight.*fetch it again",
    ),
    "unexpected key": (put(f"{UNET}label_emb.0.0.weight", 3), r"has .*label_emb.* does not know"),
    "wrong shape": (put(f"{VAE}quant_conv.bias", 3), r"quant_conv\.bias of shape \[3\] for \[8\]"),
    "scalar": (put(f"{UNET}out.2.weight"), r"has model\.diffusion_model\.out\.2\.weight of shape \[\]"),
    "no groups of 32": (
        put(f"{UNET}input_blocks.1.0.out_layers.3.weight", 33, 32, 3, 3),
        r"model\.diffusion_model\.\* is no known network",
    ),
    "words of another width": (
        put(f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight", 96, 1024),
        "the UNet wants words of width 1024, the text encoder gives 64",
    ),
    "no tokenizer": (
        no_tokenizer,
        r"model\.safetensors' holds no vocabulary.*Stable Diffusion 1 .*tokenizer'.*install open_clip_torch",
    ),
    "half a tokenizer": (forget("tokenizer.json"), r"no tokenizer\.json, or vocab\.json with merges\.txt"),
    "another tokenizer": (
        put(f"{TEXT}embeddings.token_embedding.weight", 49408, 64),
        "knows 49408 tokens, the tokenizer found for it has 514: put the one",
    ),
    "prediction": (
        lambda f: f.with_suffix(".json").write_text('{"prediction_type": "flow"}'),
        r"model\.safetensors': unknown prediction_type 'flow'",
    ),
    "broken json": (lambda f: f.with_suffix(".json").write_text("{"), r"model\.json' cannot be read as JSON"),
}


@pytest.mark.parametrize(("damage", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_named_in_one_line(file, damage, message):
    damage(file)
    (path,) = [p for p in file.parent.iterdir() if p.stem == "model" and p.suffix != ".json"]
    with pytest.raises(BadWeights, match=message) as caught:
        open_painter(str(path))
    assert "\n" not in str(caught.value)
    assert re.search("model|tokenizer", str(caught.value)), "it names a file"


# ---- the vocabulary of open_clip


@pytest.fixture
def open_clip(tmp_path, monkeypatch):
    """A package whose code must not run, with a vocabulary of two merges."""
    (tmp_path / "open_clip").mkdir()
    (tmp_path / "open_clip" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    path: Path = tmp_path / "open_clip" / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(gzip.compress(b'"bpe_simple_vocab_16e6.txt#version: 0.2\nc a\nca t</w>\n'))
    return path


def test_the_vocabulary_of_open_clip(open_clip):
    """CLIP counts the bytes from "!", so that "a" is 64 inside a word and 320 at its end."""
    assert open_clip.is_file()
    tokenizer = open_clip_tokenizer()
    assert tokenizer("a cab cat").input_ids == [514, 320, 512, 256 + 65, 513, 515]
    assert len(tokenizer) == 516
    assert tokenizer("熊猫", add_special_tokens=False).input_ids[0] == byte_id("熊".encode()[0])
    assert tokenizer.model_max_length == 77


def test_as_many_words_as_clip_has(open_clip):
    """49408: what the file has more is not used."""
    letters = [*map(chr, range(33, 127)), *map(chr, range(256, 256 + 68))]
    ends = [*letters, *(f"{letter}</w>" for letter in letters)]
    pairs = [f"{a} {b}" for a in letters for b in ends]
    open_clip.write_bytes(gzip.compress("\n".join(["title", *pairs]).encode()))
    tokenizer = open_clip_tokenizer()
    assert (len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id) == (49408, 49406, 49407)


def byte_id(byte):
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return visible.index(byte)


def test_a_damaged_vocabulary(open_clip):
    open_clip.write_bytes(b"no gzip")
    with pytest.raises(BadWeights, match=r"gz' cannot be read .* install open_clip_torch again"):
        open_clip_tokenizer()


def test_the_vocabulary_of_open_clip_serves_a_file(file, open_clip, whole):
    open_clip.write_bytes(gzip.compress(b"title\n"))  # 514 tokens, as the model has
    no_tokenizer(file)
    assert len(open_painter(str(file)).text.tokenizer) == len(
        whole[f"{TEXT}embeddings.token_embedding.weight"]
    )
    assert SD1.pad == open_painter(str(file)).text.tokenizer.pad_token
