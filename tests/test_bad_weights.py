"""Damaged files and configs: one line that names the file, the value and what to do."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from danqing.core.errors import BadWeights
from danqing.families import open_painter
from danqing.families.stable_diffusion.painter import random_components
from danqing.nets.placement import first_not_finite, move
from danqing.weights.diffusers_folder import save_folder
from danqing.weights.tensor_files import read_header, read_tensors

UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(random_components(), place, torch.float32)
    return place


@pytest.fixture
def changed(folder: Path) -> Iterator[Callable[..., Any]]:
    """Change one file of the folder; it is put back afterwards."""
    kept = {}

    def change(name: str, content: bytes) -> Path:
        path = folder / name
        kept[path] = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        return path

    yield change
    for path, content in kept.items():
        path.unlink() if content is None else path.write_bytes(content)


def one_line(place: Path) -> str:
    with pytest.raises(BadWeights) as caught:
        open_painter(str(place))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


VALUES = [
    (UNET, "in_channels", None),
    (UNET, "in_channels", 0),
    (UNET, "out_channels", -4),
    (UNET, "block_out_channels", [10**9, 10**9]),
    (UNET, "block_out_channels", []),
    (UNET, "layers_per_block", 10**9),
    (UNET, "cross_attention_dim", "wide"),
    (UNET, "attention_head_dim", 0),
    (UNET, "norm_num_groups", 0),
    (VAE, "latent_channels", 0),
    (VAE, "sample_size", None),
    (VAE, "block_out_channels", [4, 8, "eight", 16]),
    (VAE, "scaling_factor", 0),
    (VAE, "scaling_factor", float("nan")),
    (TEXT, "hidden_size", None),
    (TEXT, "num_hidden_layers", 10**9),
    (TEXT, "vocab_size", 10**12),
    (TEXT, "num_attention_heads", 0),
    (TEXT, "max_position_embeddings", -1),
    (SCHEDULER, "num_train_timesteps", 0),
    (SCHEDULER, "num_train_timesteps", 10**12),
    (SCHEDULER, "beta_end", "0.012"),
    (SCHEDULER, "beta_start", -1.0),
    (SCHEDULER, "trained_betas", [0.1, None]),
    (SCHEDULER, "steps_offset", None),
    (TOKENIZER, "model_max_length", 0),
    (TOKENIZER, "model_max_length", None),
]


@pytest.mark.parametrize(
    ("file", "key", "value"), VALUES, ids=[f"{f[0]} {k} {v!s:.20}" for f, k, v in VALUES]
)
def test_values_in_configs(
    folder: Path, changed: Callable[..., Any], file: str, key: str, value: list[Any] | str | float | None
) -> None:
    config = json.loads((folder / file).read_text())
    changed(file, json.dumps({**config, key: value}).encode())
    line = one_line(folder)
    assert file in line
    assert key in line


@pytest.mark.parametrize("config", [{}, {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}])
def test_a_scheduler_that_adds_no_noise_by_betas(
    folder: Path, changed: Callable[..., Any], config: dict[Any, Any]
) -> None:
    changed(SCHEDULER, json.dumps(config).encode())
    assert "beta_schedule" in one_line(folder)


def test_a_vocabulary_without_merges(folder: Path, changed: Callable[..., Any]) -> None:
    """Every word in bytes would be a wrong picture."""
    words = [
        *json.loads((folder / "tokenizer" / "vocab.json").read_text()),
        *(f"word{k}" for k in "abcd"),
        "cat</w>",
    ]
    (folder / "tokenizer" / "tokenizer.json").rename(folder / "kept.json")
    changed("tokenizer/vocab.json", json.dumps({word: k for k, word in enumerate(words)}).encode())
    changed("tokenizer/merges.txt", b"#version: 0.2\n")
    try:
        assert "has no merges" in one_line(folder)
    finally:
        (folder / "kept.json").rename(folder / "tokenizer" / "tokenizer.json")


def lying_header(size: Any = 2**63 - 1) -> bytes:
    return struct.pack("<Q", size) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(4)


def overlapping() -> bytes:
    part = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    head = json.dumps({"a": part, "b": part}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(4)


FILES = {
    "empty": (b"", "truncated or not safetensors"),
    "lying header": (lying_header(), "truncated or not safetensors"),
    "overlap": (overlapping(), "truncated or not safetensors"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        "is a pointer of git-lfs.*git lfs pull",
    ),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(99), "is GGUF: fetch the safetensors"),
    "zip": (b"PK\x03\x04" + bytes(99), "a zip or a pickle of PyTorch"),
    "pickle": (b"\x80\x02}q\x00." + bytes(99), "is a pickle: fetch the safetensors"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(99), "is a PNG picture"),
    "json": (b'{"weight_map": {}}', "is JSON"),
}


@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES.keys())
def test_files_that_are_no_safetensors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for read in (read_header, read_tensors, open_painter):
        with pytest.raises(BadWeights, match=message) as caught:
            read(str(path) if read is open_painter else path)
        assert "\n" not in str(caught.value)


def test_truncated_anywhere(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "vae/diffusion_pytorch_model.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for k in range(64):
        path.write_bytes(whole[: k * len(whole) // 64])
        with pytest.raises(BadWeights, match="truncated or not safetensors"):
            read_tensors(path)


def test_files_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    for name, message in (
        ("pipe", "no ordinary file"),
        ("loop", "leads back to itself"),
        ("none", "is missing"),
    ):
        with pytest.raises(BadWeights, match=message):
            read_tensors(tmp_path / f"{name}.safetensors")
    with pytest.raises(BadWeights, match="too long"):
        read_tensors(tmp_path / f"{'a' * 300}.safetensors")


def test_control_characters_stay_out_of_the_terminal(folder: Path, changed: Callable[..., Any]) -> None:
    tensors = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    changed("vae/diffusion_pytorch_model.safetensors", path.read_bytes())
    save_file({**tensors, "\x1b[31mred": torch.zeros(1)}, path)
    line = one_line(folder)
    assert "\x1b" not in line
    assert r"\x1b[31mred" in line


def test_numbers_without_scales(folder: Path, changed: Callable[..., Any]) -> None:
    """An int8 file is no picture."""
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    changed("vae/diffusion_pytorch_model.safetensors", path.read_bytes())
    tensors = load_file(path)
    save_file({**tensors, "quant_conv.weight": tensors["quant_conv.weight"].to(torch.int8)}, path)
    assert "quant_conv.weight as int8 (quantised in an unknown way)" in one_line(folder)


# ---- files in parts, and other names


def test_parts_with_an_index(folder: Path, tmp_path: Path) -> None:
    """As the hub stores what is large."""
    import shutil

    place = shutil.copytree(folder, tmp_path / "parts")
    path = place / "unet/diffusion_pytorch_model.safetensors"
    names: dict[str, Any] = {}
    tensors = load_file(path)
    path.unlink()
    for part in (0, 1):
        name = f"diffusion_pytorch_model-0000{part + 1}-of-00002.safetensors"
        half = dict(list(tensors.items())[part::2])
        save_file(half, path.with_name(name))
        names |= dict.fromkeys(half, name)
    index = path.with_name("diffusion_pytorch_model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    unet = open_painter(str(place)).modules["unet"]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in unet.state_dict().items())
    path.with_name("diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    assert "00002-of-00002.safetensors' is missing, which" in one_line(place)
    index.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}))
    assert "names no files beside it" in one_line(place)


@pytest.mark.parametrize("variant", ["fp16", "non_ema"])
def test_other_names(folder: Path, tmp_path: Path, variant: str) -> None:
    import shutil

    place = shutil.copytree(folder, tmp_path / "other")
    path = place / "unet/diffusion_pytorch_model.safetensors"
    path.rename(path.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))
    assert open_painter(str(place)).card.width == 32


# ---- mapped, not copied


def test_weights_stay_on_disk(folder: Path) -> None:
    """A network in the dtype of its file is the file: what changes there by a mapping changes here."""
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    tensors = read_tensors(path)
    assert all(tensor.untyped_storage().nbytes() >= tensor.nbytes for tensor in tensors.values())
    vae = open_painter(str(folder)).modules["vae"]
    assert not any(weight.is_meta for weight in [*vae.parameters(), *vae.buffers()])


def test_what_is_not_finite_is_named() -> None:
    painter_parts = random_components()
    assert first_not_finite({"unet": painter_parts.unet, "vae": painter_parts.vae}) is None
    painter_parts.vae.quant_conv.bias.data[0] = float("inf")
    move(torch.device("cpu"), torch.bfloat16, painter_parts.vae)
    assert first_not_finite({"unet": painter_parts.unet, "vae": painter_parts.vae}) == "vae.quant_conv.bias"
