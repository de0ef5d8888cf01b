"""LoRA and its kin in the dialects of other programs, against peft's layers and LyCORIS' formulae."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Conv2d, Linear

from danqing.apps._generate import with_adapters
from danqing.core.errors import BadWeights
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.stable_diffusion.painter import painter_of, random_components, random_painter
from danqing.tuning.adapter import Adapter, attach, coverage
from danqing.tuning.adapter_files import read_adapter
from danqing.tuning.lora import flat_name
from danqing.weights.ldm_keys import rename, unet_table
from tests.adapters import bits, output, random_adapter, resolved, same_bits
from tests.single_files import SDXL, tiny
from tests.test_adapters import TO_Q

TARGETS = ["to_q", "to_out.0", "conv1", "proj_in"]
PEFT = {
    "LoRA": LoraConfig(r=4, lora_alpha=2, target_modules=TARGETS, init_lora_weights=False),
    "DoRA": LoraConfig(r=4, lora_alpha=2, target_modules=TARGETS, use_dora=True, init_lora_weights=False),
    "LoHa": LoHaConfig(r=4, alpha=2, target_modules=TARGETS, init_weights=False),
    "LoHa with a core": LoHaConfig(
        r=4, alpha=2, target_modules=TARGETS, use_effective_conv2d=True, init_weights=False
    ),
    "LoKr": LoKrConfig(r=2, alpha=1, target_modules=TARGETS, init_weights=False),
    "LoKr of two halves": LoKrConfig(
        r=2, alpha=1, target_modules=TARGETS, decompose_both=True, init_weights=False
    ),
    "LoKr with a core": LoKrConfig(
        r=2, alpha=1, target_modules=TARGETS, use_effective_conv2d=True, init_weights=False
    ),
    "whole LoKr": LoKrConfig(r=32, alpha=16, target_modules=TARGETS, init_weights=False),
}


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return random_painter()


@pytest.mark.parametrize("config", PEFT.values(), ids=PEFT.keys())
def test_kinds_of_peft(config: LoraConfig | LoHaConfig | LoKrConfig, tmp_path: Path) -> None:
    """Read from the folder that peft's `save_pretrained` writes. Measured: 5e-6 on outputs up to 4."""
    torch.manual_seed(0)
    unet = inject_adapter_in_model(config, random_components().unet)
    state = {f"base_model.model.{k}": v.contiguous() for k, v in get_peft_model_state_dict(unet).items()}
    save_file(state, tmp_path / "adapter_model.safetensors")
    settings = {k: list(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings, default=str))
    painter = random_painter()
    before, plain = bits(painter), output(painter)
    adapter = read_adapter(tmp_path)
    theirs = painter_of(replace(random_components(), unet=unet.eval()))
    with attach(painter, {adapter: 1.0}):
        mine = output(painter)
    torch.testing.assert_close(mine, output(theirs), rtol=0, atol=1e-4)
    assert (mine - plain).abs().max() > 1e-3
    assert same_bits(bits(painter), before)


def layer_of(painter: DiffusionPainter, name: str = TO_Q) -> Any:
    return painter.modules["unet"].get_submodule(name.removeprefix("unet."))


def kohya_name(name: str = TO_Q) -> str:
    return f"lora_unet_{flat_name(name).removeprefix('unet.')}"


def saved(path: Path, name: str | None = None, **tensors: Any) -> Adapter:
    name = name or kohya_name()
    save_file({f"{name}.{key.replace('__', '.')}": t.contiguous() for key, t in tensors.items()}, path)
    return read_adapter(path)


def changed(
    painter: DiffusionPainter, adapter: Adapter, layer: Linear | Conv2d, x: Tensor, weight: Any = 1.0
) -> Tensor:
    with attach(painter, {adapter: weight}), torch.no_grad():
        return layer(x)


def test_formulae_of_lycoris(painter: DiffusionPainter, tmp_path: Path) -> None:
    """Whole differences, (IA)3, Tucker cores, DoRA across columns and on LoHa."""
    rng = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng) / 4

    layer, x = layer_of(painter), rand(3, 32)
    weight, path = layer.weight.detach(), tmp_path / "a.safetensors"
    a, b, c, d, row = rand(32, 4), rand(4, 32), rand(32, 4), rand(4, 32), rand(32)
    hadamard = (a @ b) * (c @ d) * 0.5
    cases = {
        "difference": ({"diff": a @ b, "diff_b": row}, weight + a @ b),
        "outputs": ({"weight": row, "on_input": torch.tensor(False)}, weight * (1 + row[:, None])),
        "inputs": ({"weight": row, "on_input": torch.tensor(True)}, weight * (1 + row)),
        "loha": (
            {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "alpha": torch.tensor(2.0)},
            weight + hadamard,
        ),
        "dora of loha": (
            {
                **{
                    "hada_w1_a": a,
                    "hada_w1_b": b,
                    "hada_w2_a": c,
                    "hada_w2_b": d,
                    "alpha": torch.tensor(2.0),
                },
                "dora_scale": row[:, None],
            },
            (weight + hadamard) / (weight + hadamard).norm(dim=1, keepdim=True) * row[:, None],
        ),
        "dora of columns": (
            {"lora_down__weight": b, "lora_up__weight": a, "dora_scale": row[None]},
            (weight + a @ b) / (weight + a @ b).norm(dim=0, keepdim=True) * row[None],
        ),
    }
    for case, (tensors, expected) in cases.items():
        bias = row if case == "difference" else 0
        found = changed(painter, saved(path, **tensors), layer, x)
        torch.testing.assert_close(found, x @ expected.T + bias, rtol=0, atol=2e-5, msg=case)
    name = "unet.mid_block.resnets.0.conv1"
    conv = layer_of(painter, name)
    picture = rand(1, 32, 4, 4)
    up, core, down = rand(32, 4), rand(4, 4, 3, 3), rand(4, 32)
    adapter = saved(
        path,
        kohya_name(name),
        lora_up__weight=up[..., None, None],
        lora_down__weight=down[..., None, None],
        lora_mid__weight=core,
    )
    delta = torch.einsum("or,rskl,si->oikl", up, core, down)
    expected = conv._conv_forward(picture, conv.weight + delta, conv.bias)
    torch.testing.assert_close(changed(painter, adapter, conv, picture), expected, rtol=0, atol=2e-5)


def test_names_of_diffusers_2023(painter: DiffusionPainter, tmp_path: Path) -> None:
    adapter = random_adapter(painter)
    short = {
        name: change
        for name, change in adapter.factors.items()
        if ".to_" in name or name.startswith("text_encoder")
    }
    names = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
    tensors = {}
    for name, change in short.items():
        path, _, last = name.replace(".to_out.0", ".to_out").rpartition(".")
        stem = path if name.startswith("text_encoder") else f"{path}.processor"
        for end, tensor in (("down", change.down), ("up", change.up)):
            tensors[f"{stem}.{names.get(last, last)}_lora.{end}.weight"] = tensor
    assert any("attn1.processor.to_out_lora.up.weight" in name for name in tensors)
    save_file(tensors, tmp_path / "a.safetensors")
    read = read_adapter(tmp_path / "a.safetensors")
    plain = {name: replace(change, alpha=4.0) for name, change in short.items()}
    with attach(painter, {Adapter("a", factors=plain): 1.0}):
        expected = output(painter)
    with attach(painter, {read: 1.0}):
        assert torch.equal(output(painter), expected)


@pytest.mark.parametrize("kind", ["1", "XL"])
def test_names_of_the_original_blocks(kind: str, tmp_path: Path) -> None:
    """`lora_unet_input_blocks_4_1_...`, as most trainers of Stable Diffusion XL write."""
    components = tiny(SDXL) if kind == "XL" else tiny()
    painter = painter_of(components)
    adapter = random_adapter(painter, text=False)
    table, tensors = unet_table(dict(components.unet.config)), {}
    for name, change in adapter.factors.items():
        theirs = rename(table, name.removeprefix("unet.")).replace(".", "_")
        tensors[f"lora_unet_{theirs}.lora_down.weight"] = change.down
        tensors[f"lora_unet_{theirs}.lora_up.weight"] = change.up
        tensors[f"lora_unet_{theirs}.alpha"] = torch.tensor(change.alpha)
    assert any(name.startswith("lora_unet_middle_block_1_transformer_blocks_0_attn1") for name in tensors)
    assert any("_in_layers_2." in name for name in tensors)
    save_file(tensors, tmp_path / "a.safetensors")
    read = read_adapter(tmp_path / "a.safetensors")
    assert coverage(painter, read).changed == len(adapter.factors)
    layer = painter.modules["unet"].get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    x = torch.randn(2, layer.in_features)
    assert torch.equal(changed(painter, read, layer, x), changed(painter, adapter, layer, x))


def test_the_second_text_encoder_of_xl(tmp_path: Path) -> None:
    """`lora_te2_...` changes it, `lora_te1_...` the first."""
    painter = painter_of(tiny(SDXL))
    tensors: dict[Any, Any] = {}
    for name, width in (("te1", 64), ("te2", 128)):
        stem = f"lora_{name}_text_model_encoder_layers_0_self_attn_q_proj"
        tensors |= {
            f"{stem}.lora_down.weight": torch.randn(4, width),
            f"{stem}.lora_up.weight": torch.randn(width, 4),
        }
    save_file(tensors, tmp_path / "a.safetensors")
    plain = painter.text("a cat")
    with attach(painter, {read_adapter(tmp_path / "a.safetensors"): 1.0}):
        both = painter.text("a cat")
    assert (both.tokens - plain.tokens)[..., :64].abs().max() > 1e-3
    assert (both.tokens - plain.tokens)[..., 64:].abs().max() > 1e-3
    assert (both.pooled - plain.pooled).abs().max() > 1e-3


def test_a_pair_of_words_for_xl(tmp_path: Path) -> None:
    """`clip_l` and `clip_g`: rows of the first and of the second text encoder."""
    painter = painter_of(tiny(SDXL))
    rows = {"clip_l": torch.randn(2, 64), "clip_g": torch.randn(2, 128)}
    save_file(rows, tmp_path / "neg.safetensors")
    adapter = read_adapter(tmp_path / "neg.safetensors")
    plain = painter.text
    with attach(painter, {adapter: 1.0}):
        for encoder, name in ((painter.text.first, "clip_l"), (painter.text.second, "clip_g")):
            ids = encoder.tokenizer("<neg>", add_special_tokens=False, return_tensors="pt").input_ids
            assert torch.equal(encoder.model.get_input_embeddings()(ids)[0], rows[name])
    assert painter.text is plain
    with pytest.raises(BadWeights, match="is for another model, of two text encoders"):
        attach(random_painter(), {adapter: 1.0}).__enter__()


# ---- what does not fit


def test_a_layer_more_than_the_model_has(painter: DiffusionPainter) -> None:
    """A text encoder of one layer more: the rest is used, and the layer named."""
    adapter = random_adapter(painter)
    extra = {"text_encoder.encoder.layers.9.self_attn.q_proj": next(iter(adapter.factors.values()))}
    longer = Adapter("long", factors={**adapter.factors, **extra})
    with attach(painter, {adapter: 1.0}):
        expected = output(painter)
    total = len(adapter.factors)
    message = rf"{total} of {total + 1} layers are used; this model lacks text_encoder\.encoder\.layers\.9"
    with pytest.warns(RuntimeWarning, match=message), attach(painter, {longer: 1.0}):
        assert torch.equal(output(painter), expected)
    with pytest.warns(RuntimeWarning, match="layers are used"):
        found = coverage(painter, longer)
    assert (found.changed, found.stated) == (total, total + 1)


X = "lora_unet_x"
FAULTS = {
    "nothing": ({}, "holds nothing that a model could learn"),
    "rank 0": (
        {"lora_unet_x.lora_down.weight": (0, 8), "lora_unet_x.lora_up.weight": (8, 0)},
        r"down of unet\.x",
    ),
    "a scalar": (
        {"lora_unet_x.lora_down.weight": (), "lora_unet_x.lora_up.weight": (8, 1)},
        r"down of unet\.x",
    ),
    "three alphas": (
        {
            "lora_unet_x.lora_down.weight": (1, 8),
            "lora_unet_x.lora_up.weight": (8, 1),
            "lora_unet_x.alpha": (3,),
        },
        r"alpha of unet\.x as torch\.float32 \[3\]",
    ),
    "half of LoHa": ({"lora_unet_x.hada_w1_a": (8, 1)}, r"has hada_w1_a alone of unet\.x"),
    "a word of nothing": ({"emb_params": (0, 8)}, "no vectors of a word"),
    "a whole model": (
        {"cond_stage_model.transformer.x": (1,)},
        "is a whole model of .* give it with --model",
    ),
    "a ControlNet": ({"control_model.x": (1,)}, "is a ControlNet and no adapter"),
}


@pytest.mark.parametrize(("shapes", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_bad_adapters_are_one_line(
    tmp_path: Path, shapes: dict[Any, Any] | tuple[Any, ...], message: str
) -> None:
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, tmp_path / "bad.safetensors")
    with pytest.raises(BadWeights, match=message) as caught:
        read_adapter(tmp_path / "bad.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"unet.lora_alpha": "much"}, {"unet.alpha_pattern": {"to_q(": 2}}, {"unet.alpha_pattern": ["to_q"]}],
)
def test_bad_settings_are_one_line(tmp_path: Path, settings: dict[str, Any]) -> None:
    tensors = {"unet.to_q.lora_A.weight": torch.ones(1, 8), "unet.to_q.lora_B.weight": torch.ones(8, 1)}
    save_file(tensors, tmp_path / "bad.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
    with pytest.raises(BadWeights, match=r"damaged metadata \(alpha of unet\.to_q\)"):
        read_adapter(tmp_path / "bad.safetensors")


def test_bad_words_are_one_line(tmp_path: Path) -> None:
    for name, vectors in (
        ("sparse", torch.ones(2, 8).to_sparse()),
        ("meta", torch.ones(2, 8, device="meta")),
    ):
        torch.save({"string_to_param": {"*": vectors}}, tmp_path / f"{name}.pt")
    assert read_adapter(tmp_path / "sparse.pt").words["<sparse>"].shape == (2, 8)
    with pytest.raises(BadWeights, match="holds no learned word"):
        read_adapter(tmp_path / "meta.pt")
    (tmp_path / "a.bin").touch()
    with pytest.raises(BadWeights, match=r"a\.bin' is a pickle"):
        read_adapter(tmp_path / "a.bin")


# ---- words by file and by bare name


@pytest.mark.parametrize("prompt", ["a <EasyNegative> fox", "a EasyNegative fox", "a easynegative, fox"])
def test_words_by_file(painter: DiffusionPainter, tmp_path: Path, prompt: str) -> None:
    """As in A1111: the file names the word, in the prompt and in the negative prompt."""
    rows = torch.randn(2, 32)
    place = str(tmp_path / "EasyNegative.pt")
    torch.save({"string_to_param": {"*": rows}}, place)
    named = {"EasyNegative": 1.0} if "<" in prompt else {}  # as the prompt's own reference
    brief = resolved(painter, prompt, negative_prompt="EasyNegative", adapters={place: 1.0, **named})
    with with_adapters(painter, brief) as spoken:
        assert "<EasyNegative>" in spoken.prompt
        assert spoken.negative_prompt == "<EasyNegative>"
        ids = painter.text.tokenizer(
            spoken.negative_prompt, add_special_tokens=False, return_tensors="pt"
        ).input_ids
        assert torch.equal(painter.text.model.get_input_embeddings()(ids)[0], rows)
