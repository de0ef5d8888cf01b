"""T2I-Adapters against diffusers' pipelines, with the same latents; their files in both namings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    MultiAdapter,
    StableDiffusionAdapterPipeline,
    StableDiffusionXLAdapterPipeline,
    T2IAdapter,
)
from safetensors.torch import save_file

from danqing.core.errors import BadWeights
from danqing.families.stable_diffusion.control import Control, open_control
from danqing.families.stable_diffusion.painter import painter_of
from danqing.weights.detect import identify
from danqing.weights.ldm_configs import Kind
from danqing.weights.t2i_adapter import _config, _renaming, is_t2i_adapter, read_t2i_adapter, steers
from danqing.weights.tensor_files import Header
from tests.controlnets import controlnet_for
from tests.image_prompts import original_t2i, t2i_adapter
from tests.parity.test_controlnet import brief_for, noise, paint, picture, pipeline_of, theirs
from tests.single_files import SD1, SD2, SDXL, tiny

ADAPTER = {False: StableDiffusionAdapterPipeline, True: StableDiffusionXLAdapterPipeline}
WAYS = pytest.mark.parametrize(
    ("kind", "layout"),
    [(SD1, "full_adapter"), (SD1, "light_adapter"), (SD2, "full_adapter"), (SDXL, "full_adapter_xl")],
    ids=["1", "1 light", "2", "XL"],
)
NEAR: dict[str, Any] = {"rtol": 0, "atol": 2e-4}


def stored(place: Path, adapter: T2IAdapter, naming: str) -> Path:
    tensors = original_t2i(adapter) if naming == "original" else adapter.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, place)
    return place


@WAYS
def test_from_words(kind: Kind, layout: str) -> None:
    components = tiny(kind)
    painter, network = painter_of(components), t2i_adapter(components.unet, layout)
    brief, control_map = brief_for(painter.card, width=128, steps=4), picture(1, 64, 128)
    before = paint(painter, brief, [])
    found = paint(painter, brief, [Control(network, control_map, 0.8)])
    expected = theirs(
        pipeline_of(components, None, ADAPTER, adapter=network),
        brief,
        image=control_map,
        width=128,
        height=64,
        latents=noise(brief),
        adapter_conditioning_scale=0.8,
    )
    torch.testing.assert_close(found, expected, **NEAR)
    assert (found - before).abs().max() > 1e-2
    assert torch.equal(before, paint(painter, brief, []))


@pytest.mark.parametrize(("kind", "layout"), [(SD1, "full_adapter"), (SDXL, "full_adapter_xl")])
def test_several_at_once(kind: Kind, layout: str) -> None:
    components = tiny(kind)
    networks = [t2i_adapter(components.unet, layout, seed) for seed in (1, 2)]
    painter, maps = painter_of(components), [picture(1), picture(2)]
    brief = brief_for(painter.card)
    controls = [Control(networks[0], maps[0], 0.7), Control(networks[1], maps[1], 0.4)]
    expected = theirs(
        pipeline_of(components, None, ADAPTER, adapter=MultiAdapter(networks)),
        brief,
        image=maps,
        width=64,
        height=64,
        latents=noise(brief),
        adapter_conditioning_scale=[0.7, 0.4],
    )
    torch.testing.assert_close(paint(painter, brief, controls), expected, **NEAR)


def test_a_share_of_the_steps() -> None:
    components = tiny(SDXL)
    painter, network = painter_of(components), t2i_adapter(components.unet, "full_adapter_xl")
    brief = brief_for(painter.card)
    found = paint(painter, brief, [Control(network, picture(1), 0.8, end=0.5)])
    expected = theirs(
        pipeline_of(components, None, ADAPTER, adapter=network),
        brief,
        image=picture(1),
        width=64,
        height=64,
        latents=noise(brief),
        adapter_conditioning_scale=0.8,
        adapter_conditioning_factor=0.5,
    )
    torch.testing.assert_close(found, expected, **NEAR)


def test_beside_a_controlnet() -> None:
    """Both add, each at its own places; the least sides that the model's grid allows are no trouble."""
    components = tiny(SDXL)
    painter = painter_of(components)
    brief = brief_for(painter.card, width=96, height=32)
    seen = picture(1, 32, 96)
    one, other = t2i_adapter(components.unet, "full_adapter_xl"), controlnet_for(components.unet)
    alone = [paint(painter, brief, [Control(network, seen, 0.8)]) for network in (one, other)]
    both = paint(painter, brief, [Control(one, seen, 0.8), Control(other, seen, 0.8)])
    assert all(state.isfinite().all() and (state - both).abs().max() > 1e-2 for state in alone)


def test_a_map_without_colours() -> None:
    components = tiny(SD1)
    painter, network = painter_of(components), t2i_adapter(components.unet, channels=1)
    brief, grey = brief_for(painter.card), picture(1)[:, :1]
    found = paint(painter, brief, [Control(network, grey.expand(-1, 3, -1, -1))])
    expected = theirs(
        pipeline_of(components, None, ADAPTER, adapter=network),
        brief,
        image=grey,
        width=64,
        height=64,
        latents=noise(brief),
    )
    torch.testing.assert_close(found, expected, **NEAR)


@WAYS
def test_every_kind_of_file(kind: Kind, layout: str, tmp_path: Path) -> None:
    components = tiny(kind)
    base = dict(components.unet.config)
    network = t2i_adapter(components.unet, layout)
    network.save_pretrained(tmp_path / "folder")
    places = [stored(tmp_path / f"{name}.safetensors", network, name) for name in ("diffusers", "original")]
    wanted = network.state_dict()
    for place in (tmp_path / "folder", *places):
        assert is_t2i_adapter(place)
        assert steers(place, base)
        found = open_control(place, painter_of(components))
        assert found.state_dict().keys() == wanted.keys()
        assert all(torch.equal(found.state_dict()[name], wanted[name]) for name in wanted), place
        for ours, expected in zip(found(picture(1)), network(picture(1)), strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    ("layout", "channels"), [("full_adapter", 3), ("light_adapter", 1), ("full_adapter_xl", 3)]
)
def test_published_sizes(layout: str, channels: int) -> None:
    """The true widths, in the naming of the authors' files: their shapes alone tell all of the config."""
    sides = [320, 640, 1280] if layout == "light_adapter" else [320, 640, 1280, 1280]
    is_xl, blocks = layout == "full_adapter_xl", 4 if layout == "light_adapter" else 2
    with torch.device("meta"):
        network = T2IAdapter(channels, sides, blocks, 16 if is_xl else 8, layout)
    shapes = {name: tuple(tensor.shape) for name, tensor in original_t2i(network).items()}
    header = Header(Path("a.safetensors"), shapes, {})
    assert identify(header).family == ("Stable Diffusion XL" if is_xl else "Stable Diffusion 1")
    rename = _renaming(header)
    assert {rename(name) for name in shapes} == network.state_dict().keys()
    config = _config(header.path, {rename(name): shape for name, shape in shapes.items()})
    assert config == {name: network.config[name] for name in config}


def test_what_is_refused(tmp_path: Path) -> None:
    one, xl = tiny(SD1).unet, tiny(SDXL).unet
    place = stored(tmp_path / "a.safetensors", t2i_adapter(one), "original")
    t2i_adapter(one).save_pretrained(tmp_path / "a")
    for name in ("a", "a.safetensors"):
        with pytest.raises(
            BadWeights, match=r"is a T2I-Adapter of .* 1 or 2, and this model is .*XL: choose"
        ):
            read_t2i_adapter(tmp_path / name, dict(xl.config))
        assert not steers(tmp_path / name, dict(xl.config))
    wide = {**one.config, "block_out_channels": (64, 64, 96, 96)}
    with pytest.raises(BadWeights, match="is a T2I-Adapter for a UNet of other sizes"):
        read_t2i_adapter(place, wide)
    whole = original_t2i(t2i_adapter(one))
    cases = {
        r"lacks adapter.body.0.resnets.1.block2.bias": {
            name: tensor for name, tensor in whole.items() if name != "body.1.block2.bias"
        },
        r"is no whole T2I-Adapter": {n: t for n, t in whole.items() if n != "body.0.block2.weight"},
        r"is a LoRA.*: give a T2I-Adapter": {"lora_unet_x.lora_down.weight": torch.ones(2, 2)},
    }
    for line, tensors in cases.items():
        save_file(tensors, place)
        with pytest.raises(BadWeights, match=line):
            read_t2i_adapter(place, dict(one.config))
    place.write_bytes(place.read_bytes()[:-10])
    with pytest.raises(BadWeights, match="is truncated or not safetensors"):
        read_t2i_adapter(place, dict(one.config))
    one.save_pretrained(tmp_path / "unet")
    with pytest.raises(BadWeights, match="holds UNet2DConditionModel, which is no T2I-Adapter"):
        read_t2i_adapter(tmp_path / "unet", dict(one.config))
