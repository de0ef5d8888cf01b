"""Original checkpoints: our names against diffusers' converters, and whole files in each other's hands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import save_file
from torch import Tensor

from danqing.core.brief import Brief
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.stable_diffusion.painter import open_weights
from danqing.weights.diffusers_folder import StableDiffusionComponents, save_folder
from danqing.weights.ldm_configs import UNET, VAE_PREFIX, Kind, text_config, unet_config, vae_config
from danqing.weights.single_file import read_single_file
from danqing.weights.tensor_files import Header
from tests.single_files import SD1, SD2, full_size, original, tiny

KINDS = pytest.mark.parametrize("kind", [SD1, SD2], ids=["1", "2"])
PREDICTS = {SD1.title: "epsilon", SD2.title: "v_prediction"}


@pytest.fixture(scope="module")
def models() -> dict[str, tuple[StableDiffusionComponents, dict[str, Tensor]]]:
    """Kind -> (components, tensors under their original names)."""
    made = {kind.title: tiny(kind, PREDICTS[kind.title]) for kind in (SD1, SD2)}
    return {kind.title: (made[kind.title], original(made[kind.title], kind)) for kind in (SD1, SD2)}


def assert_same(
    found: dict[str, Tensor] | dict[str, Any], wanted: dict[str, Any] | dict[str, Tensor]
) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@KINDS
def test_unet_names(
    models: dict[str, tuple[StableDiffusionComponents, dict[str, Tensor]]], kind: Kind
) -> None:
    """Convolutions (1) and matrices (2) around the attention. Measured: bit-equal, 686 and 684 of them."""
    components, tensors = models[kind.title]
    assert tensors["model.diffusion_model.middle_block.1.proj_in.weight"].ndim == (2 if kind is SD2 else 4)
    assert_same(
        convert_ldm_unet_checkpoint(tensors, dict(components.unet.config)), components.unet.state_dict()
    )


def test_autoencoder_names(models: dict[str, tuple[StableDiffusionComponents, dict[str, Tensor]]]) -> None:
    components, tensors = models[SD1.title]
    assert tensors["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (64, 64, 1, 1)
    assert_same(convert_ldm_vae_checkpoint(tensors, dict(components.vae.config)), components.vae.state_dict())


def test_clip_names(models: dict[str, tuple[StableDiffusionComponents, dict[str, Tensor]]]) -> None:
    components, tensors = models[SD1.title]
    found = convert_ldm_clip_checkpoint(tensors)
    assert found.pop("text_model.embeddings.position_ids").shape == (1, 77)
    wanted = components.text_encoder.state_dict()
    assert_same(found, {f"text_model.{name}": tensor for name, tensor in wanted.items()})


def test_open_clip_names(models: dict[str, tuple[StableDiffusionComponents, dict[str, Tensor]]]) -> None:
    components, tensors = models[SD2.title]
    assert tensors["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"].shape == (192, 64)
    found = convert_open_clip_checkpoint(components.text_encoder, tensors)
    wanted = components.text_encoder.state_dict()
    assert_same(found, {f"text_model.{name}": tensor for name, tensor in wanted.items()})


@pytest.fixture(scope="module")
def places(
    models: dict[str, tuple[StableDiffusionComponents, dict[str, Tensor]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Kind -> a diffusers folder with the single file of the same weights in it, beside its tokenizer."""
    made = {}
    for kind in (SD1, SD2):
        components, tensors = models[kind.title]
        folder = tmp_path_factory.mktemp("models") / "tiny"
        save_folder(components, folder, torch.float32)
        said = {"modelspec.prediction_type": "v"} if kind is SD2 else None
        save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "a.safetensors", said)
        made[kind.title] = folder
    return made


@KINDS
def test_round_trip(
    models: dict[str, tuple[StableDiffusionComponents, dict[str, Tensor]]],
    places: dict[str, Path],
    kind: Kind,
) -> None:
    components, _ = models[kind.title]
    found = read_single_file(places[kind.title] / "a.safetensors")
    for part in ("unet", "vae", "text_encoder"):
        assert_same(getattr(found, part).state_dict(), getattr(components, part).state_dict())
        assert not getattr(found, part).training
    assert found.scheduler == components.scheduler
    assert (found.card.name, found.card.width) == ("a", 768 if kind is SD2 else 512)
    ids = [model.tokenizer("a red panda", padding="max_length").input_ids for model in (found, components)]
    assert ids[0] == ids[1]


def paint(painter: DiffusionPainter) -> Tensor:
    brief = Brief(
        prompt="a red panda", negative_prompt="blue", seed=9, width=64, height=64, steps=5, sampler="ddim"
    ).resolve(painter.card)
    words = painter.condition(brief)
    canvas = painter.begin(brief, words, Seeds.of(9, 1))
    *_, canvas = painter.steps(brief, words, canvas)
    return canvas.state


@KINDS
def test_a_file_paints_what_its_folder_paints(places: dict[str, Path], kind: Kind) -> None:
    folder = places[kind.title]
    assert torch.equal(paint(open_weights(folder / "a.safetensors")), paint(open_weights(folder)))


def test_our_file_in_their_hands(places: dict[str, Path]) -> None:
    """All components bit-equal. Measured: 1.8e-5 on latents up to 12."""
    folder = places[SD1.title]
    theirs = StableDiffusionPipeline.from_single_file(
        str(folder / "a.safetensors"), config=str(folder), local_files_only=True
    )
    theirs.set_progress_bar_config(disable=True)
    mine = read_single_file(folder / "a.safetensors")
    for part in ("unet", "vae", "text_encoder"):
        assert_same(getattr(theirs, part).state_dict(), getattr(mine, part).state_dict())
    expected = theirs(
        "a red panda",
        negative_prompt="blue",
        height=64,
        width=64,
        num_inference_steps=5,
        guidance_scale=mine.card.guidance,
        latents=Seeds.of(9, 1).normal(4, 8, 8),
        output_type="latent",
    ).images
    mine = paint(open_weights(folder / "a.safetensors"))  # type: ignore[assignment]
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-4)


def test_names_without_text_model(
    models: dict[str, tuple[StableDiffusionComponents, dict[str, Tensor]]], tmp_path: Path
) -> None:
    """As some merges were saved."""
    components, tensors = models[SD1.title]
    short = {name.replace("text_model.", ""): t.contiguous() for name, t in tensors.items()}
    save_file(short, tmp_path / "a.safetensors")
    components.tokenizer.save_pretrained(tmp_path / "tokenizer")
    found = read_single_file(tmp_path / "a.safetensors")
    assert_same(found.text_encoder.state_dict(), components.text_encoder.state_dict())


def test_the_last_block_of_open_clip_is_left_out(
    models: dict[str, tuple[StableDiffusionComponents, dict[str, Tensor]]], tmp_path: Path
) -> None:
    """The 24th of 24. Files made from diffusers folders come without it, and lose nothing else."""
    head = "cond_stage_model.model."
    components, tensors = models[SD2.title]
    block = {k: t for k, t in tensors.items() if k.startswith(f"{head}transformer.resblocks.2.")}
    more = {k.replace("resblocks.2.", f"resblocks.{n}."): t for n in range(3, 24) for k, t in block.items()}
    extra = {f"{head}{name}": torch.ones(2) for name in ("logit_scale", "text_projection", "attn_mask")}
    (tmp_path / "a.json").write_text('{"prediction_type": "v_prediction"}')
    components.tokenizer.save_pretrained(tmp_path / "tokenizer")
    save_file({k: t.clone() for k, t in (tensors | more | extra).items()}, tmp_path / "a.safetensors")
    found = read_single_file(tmp_path / "a.safetensors")
    assert found.text_encoder.config.num_hidden_layers == 23
    assert replace(found, card=components.card).scheduler == components.scheduler


@pytest.mark.parametrize(
    ("kind", "keys", "shapes"),
    [
        (
            SD1,
            (686, 248, 196),
            {
                f"{UNET}output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
                f"{UNET}output_blocks.8.2.conv.weight": (640, 640, 3, 3),
                f"{UNET}output_blocks.11.1.proj_out.weight": (320, 320, 1, 1),
                f"{SD1.text_encoders[0].head}encoder.layers.11.mlp.fc1.weight": (3072, 768),
            },
        ),
        (
            SD2,
            (686, 248, 23 * 16 + 4),
            {
                f"{UNET}input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
                f"{UNET}middle_block.1.proj_in.weight": (1280, 1280),
                f"{VAE_PREFIX}decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
                "cond_stage_model.model.transformer.resblocks.22.mlp.c_fc.weight": (4096, 1024),
            },
        ),
    ],
    ids=["1", "2"],
)
def test_the_published_models(
    kind: Kind, keys: tuple[int, ...], shapes: dict[str, tuple[int, ...] | tuple[int, int]]
) -> None:
    """Their sizes follow from the shapes; keys and shapes are those of the files on everybody's disk."""
    tensors, configs = full_size(kind)
    heads = (UNET, VAE_PREFIX, kind.text_encoders[0].head)
    assert tuple(sum(name.startswith(head) for name in tensors) for head in heads) == keys
    assert {name: tuple(tensors[name].shape) for name in shapes} == shapes
    header = Header(Path("a"), {name: tuple(t.shape) for name, t in tensors.items()}, {})
    prediction = "epsilon" if kind is SD1 else "v_prediction"
    found = (
        unet_config(header, kind, prediction),
        vae_config(header),
        text_config(header, kind.text_encoders[0]),
    )
    for mine, theirs in zip(found, configs, strict=True):
        told = {name: value for name, value in mine.items() if name in theirs}
        if "attention_head_dim" in told and kind is SD1:
            told["attention_head_dim"] = 8  # said of each level, to the same effect
        assert told == {name: list(v) if isinstance(v, tuple) else v for name, v in theirs.items()}
    assert (found[0]["layers_per_block"], found[0]["in_channels"], found[1]["latent_channels"]) == (2, 4, 4)
