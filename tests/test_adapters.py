"""Adapters come off bit-exactly, add up, are refused by other models, and survive files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from danqing.core.errors import BadBrief, BadWeights
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.stable_diffusion.painter import random_painter
from danqing.nets.seamless import seamless
from danqing.tuning.adapter import Adapter, attach, coverage, fingerprint, named_as, with_trigger_words
from danqing.tuning.adapter_files import find_adapter, read_adapter, write_adapter
from danqing.tuning.lora import Factors, flat_name, new_factors
from tests.adapters import bits, output, random_adapter, same_bits, scaled

TO_Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return random_painter()


def word(vectors: Any = 2, width: int = 32, seed: int = 0) -> Adapter:
    rows = torch.randn(vectors, width, generator=torch.Generator().manual_seed(seed))
    return Adapter("my-cat", words={"<my-cat>": rows}, trigger="<my-cat>")


# ---- on and off


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_off_again_is_bit_identical(painter: DiffusionPainter, error: type[Any] | None) -> None:
    before, said, text = bits(painter), output(painter, "a <my-cat>"), painter.text
    try:
        with attach(painter, {random_adapter(painter): 0.7, word(): 1.0}):
            assert not torch.equal(output(painter, "a <my-cat>"), said)
            if error:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert same_bits(bits(painter), before)
    assert painter.text is text
    assert torch.equal(output(painter, "a <my-cat>"), said)
    assert not any(layer._forward_hooks for net in painter.modules.values() for layer in net.modules())


def test_weight_zero_is_exactly_nothing(painter: DiffusionPainter) -> None:
    said = output(painter)
    with attach(painter, {random_adapter(painter): 0.0, word(): 0}):
        assert torch.equal(output(painter), said)
    with attach(
        painter, {Adapter("fresh", factors=new_factors(painter.modules, {"unet": ("to_q",)}, 4, 0)): 1.0}
    ):
        assert torch.equal(output(painter), said)  # up is zero before training


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_adapters_add_up(painter: Any, first: Any, second: Any) -> None:
    """One layer of two adapters is W + w1 B1 A1 + w2 B2 A2. Measured: 4e-7."""
    one, other = random_adapter(painter, seed=1), random_adapter(painter, seed=2)
    layer = painter.modules["unet"].get_submodule(TO_Q.removeprefix("unet."))
    x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(3))
    changed = layer.weight.detach().clone()
    for adapter, weight in ((one, first), (other, second)):
        change = adapter.factors[TO_Q]
        changed += weight * change.alpha / change.rank * change.up @ change.down
    with attach(painter, {one: first, other: second}), torch.no_grad():
        torch.testing.assert_close(layer(x), x @ changed.T, rtol=0, atol=5e-6)


def test_two_adapters_are_both_at_once(painter: DiffusionPainter) -> None:
    """Nested, together, or with the weight inside: the same output. Measured: 4e-7."""
    one, other = random_adapter(painter, seed=1), random_adapter(painter, seed=2)
    with attach(painter, {one: 0.5, other: -0.3}):
        together = output(painter)
    with attach(painter, {one: 0.5}), attach(painter, {other: -0.3}):
        nested = output(painter)
    with attach(painter, {scaled(one, 0.5): 1.0, scaled(other, -0.3): 1.0}):
        inside = output(painter)
    torch.testing.assert_close(nested, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(inside, together, rtol=0, atol=1e-5)


def test_a_convolutions_change_is_a_convolution(painter: DiffusionPainter) -> None:
    """W + alpha / r * up down, also where a seamless picture pads with the other edge. Measured: 5e-7."""
    adapter = random_adapter(painter)
    name = next(name for name in adapter.factors if name.endswith("conv1"))
    layer, change = painter.modules["unet"].get_submodule(name.removeprefix("unet.")), adapter.factors[name]
    x = torch.randn(1, layer.in_channels, 4, 4, generator=torch.Generator().manual_seed(0))
    product = torch.einsum("or,rikl->oikl", change.up[:, :, 0, 0], change.down) * change.alpha / change.rank
    for edges in (seamless(), seamless(layer)):
        with edges, attach(painter, {adapter: 1.0}), torch.no_grad():
            expected = layer._conv_forward(x, layer.weight + product, layer.bias)
            torch.testing.assert_close(layer(x), expected, rtol=0, atol=5e-6)


# ---- for another model


def test_another_models_adapter_is_refused_before_anything_changes(painter: DiffusionPainter) -> None:
    good, said = random_adapter(painter), output(painter)
    wide = Adapter("wide", factors={TO_Q: Factors(torch.ones(4, 64), torch.ones(64, 4), 4.0)})
    with pytest.raises(BadWeights, match=rf"'wide' is for another model: .*{TO_Q}.* \[64, 64\].* \[32, 32\]"):
        attach(painter, {good: 1.0, wide: 1.0}).__enter__()
    assert torch.equal(output(painter), said)
    lost = Adapter("sdxl", factors={"text_encoder_2.x": Factors(torch.ones(4, 8), torch.ones(8, 4), 4.0)})
    with pytest.raises(
        BadWeights, match=r"'sdxl' is for another model: .*text_encoder_2\.x.* \[8, 8\].*lacks"
    ):
        attach(painter, {lost: 1.0}).__enter__()
    with pytest.raises(BadWeights, match=r"'<my-cat>' is for another model: .*\[2, 64\].*\[any 32\]"):
        attach(painter, {good: 1.0, word(width=64): 1.0}).__enter__()
    assert torch.equal(output(painter), said)


def test_coverage(painter: DiffusionPainter) -> None:
    few = Adapter("few", factors=new_factors(painter.modules, {"unet": ("to_q",)}, 4, 0))
    layers = sum(
        isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) for layer in painter.modules["unet"].modules()
    )
    found = coverage(painter, few)
    assert (found.changed, found.layers) == (len(few.factors), layers)
    assert 0 < found.changed < layers


def test_fingerprints_tell_shapes_and_bits_apart(painter: DiffusionPainter) -> None:
    other = random_painter(seed=1)
    assert fingerprint(painter.modules) == fingerprint(other.modules)
    assert fingerprint(painter.modules, values=True) != fingerprint(other.modules, values=True)
    assert fingerprint(painter.modules) != fingerprint({"unet": painter.modules["unet"]})


# ---- words


def test_a_learned_word_is_its_vectors_in_place(painter: DiffusionPainter) -> None:
    """A word whose vectors are those of "cat" in bytes reads as "cat"; other texts read as before."""
    tokenizer, rows = painter.text.tokenizer, painter.text.model.get_input_embeddings().weight.detach()
    cat = Adapter("x", words={"<X-cat>": rows[tokenizer("cat", add_special_tokens=False).input_ids]})
    plain, other = painter.text("a cat, flat").tokens, painter.text("<x-dog> flat").tokens
    with attach(painter, {cat: 1.0}):
        assert torch.equal(painter.text("a <x-cat>, flat").tokens, plain)
        assert torch.equal(painter.text("a <X-Cat>, flat").tokens, plain)
        assert torch.equal(painter.text("<x-dog> flat").tokens, other)
        assert painter.text("a <x-cat> and more words").dropped == "ds"  # 14 bytes fit
        with attach(painter, {word(seed=3): 1.0}):  # a second one beside it
            assert torch.equal(painter.text("a <x-cat>, flat").tokens, plain)
            assert not torch.equal(painter.text("a <my-cat>").tokens, painter.text("a <x-cat>").tokens)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a <my-cat>, 3d style", "a wth cat, 3d style"),
        ("<My-Cat>", "wth cat"),
        ("一只<my-cat>在睡觉", "一只 wth cat 在睡觉"),
        ("(<my-cat>:1.2) and <other>", "(wth cat:1.2) and <other>"),
        ("<my-cat><my-cat>", "wth cat wth cat"),
    ],
)
def test_spoken(prompt: str, expected: str) -> None:
    adapter = Adapter("my-cat", trigger="wth cat")
    assert with_trigger_words(prompt, [adapter, Adapter("unused", trigger="zz")]) == expected


# ---- files


def same(one: Adapter, other: Adapter) -> None:
    assert (one.name, one.trigger, one.kind, one.base, one.shapes) == (
        other.name,
        other.trigger,
        other.kind,
        other.base,
        other.shapes,
    )
    assert one.factors.keys() == other.factors.keys()
    for layer, change in one.factors.items():
        assert torch.equal(change.down, other.factors[layer].down)
        assert torch.equal(change.up, other.factors[layer].up)
        assert change.alpha == other.factors[layer].alpha
    assert one.words.keys() == other.words.keys()
    assert all(torch.equal(one.words[key], other.words[key]) for key in one.words)


@pytest.mark.parametrize("parts", ["layers", "words", "both"])
def test_our_files_are_read_back_bit_equal(painter: DiffusionPainter, tmp_path: Path, parts: str) -> None:
    adapter = word() if parts == "words" else replace(random_adapter(painter), trigger="wth cat")
    if parts == "both":
        adapter = replace(adapter, words=word().words, trigger="<my-cat>")
    adapter = replace(adapter, name="我的猫", kind="cat", base="stickers", shapes="0123")
    write_adapter(adapter, tmp_path / "a" / "b.safetensors")
    same(read_adapter(tmp_path / "a" / "b.safetensors"), adapter)


def test_mixed_ranks_and_alphas_survive(painter: DiffusionPainter, tmp_path: Path) -> None:
    adapter = random_adapter(painter)
    layers = dict(adapter.factors)
    layers[TO_Q] = Factors(torch.ones(2, 32), torch.ones(32, 2), 7.0)
    write_adapter(replace(adapter, factors=layers), tmp_path / "a.safetensors")
    same(read_adapter(tmp_path / "a.safetensors"), replace(adapter, factors=layers))


def kohya(adapter: Adapter, path: Path, alphas: bool = True) -> None:
    """The file that kohya's programs write."""
    tensors = {}
    for name, change in adapter.factors.items():
        network, _, layer = flat_name(name).partition(".")
        stem = f"lora_unet_{layer}" if network == "unet" else f"lora_te_text_model_{layer}"
        tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"] = change.down, change.up
        if alphas:
            tensors[f"{stem}.alpha"] = torch.tensor(change.alpha)
    save_file(tensors, path, {"modelspec.trigger_phrase": "wth cat", "ss_network_dim": "4"})


def test_kohya_files(painter: DiffusionPainter, tmp_path: Path) -> None:
    adapter = random_adapter(painter)
    kohya(adapter, tmp_path / "cat.safetensors")
    read = read_adapter(tmp_path / "cat.safetensors")
    assert (read.name, read.trigger) == ("cat", "wth cat")
    assert sorted(read.factors) == sorted(map(flat_name, adapter.factors))
    with attach(painter, {adapter: 1.0}):
        expected = output(painter)
    with attach(painter, {read: 1.0}):
        assert torch.equal(output(painter), expected)
    ours = named_as(painter, read)
    write_adapter(ours, tmp_path / "ours.safetensors")
    same(read_adapter(tmp_path / "ours.safetensors"), ours)
    assert ours.factors.keys() == adapter.factors.keys()


def test_alpha_is_the_rank_where_a_file_does_not_tell(painter: DiffusionPainter, tmp_path: Path) -> None:
    kohya(random_adapter(painter, rank=4), tmp_path / "a.safetensors", alphas=False)
    assert {change.alpha for change in read_adapter(tmp_path / "a.safetensors").factors.values()} == {4.0}


def test_linear_layers_as_convolutions_and_back(painter: DiffusionPainter) -> None:
    change = random_adapter(painter).factors[TO_Q]
    wide = Factors(change.down[..., None, None], change.up[..., None, None], change.alpha)
    with attach(painter, {Adapter("a", factors={TO_Q: change}): 1.0}):
        expected = output(painter)
    with attach(painter, {Adapter("b", factors={TO_Q: wide}): 1.0}):
        assert torch.equal(output(painter), expected)


def test_our_metadata_is_for_both_readers(painter: DiffusionPainter, tmp_path: Path) -> None:
    adapter = replace(random_adapter(painter), trigger="wth cat", kind="cat", base="stickers")
    write_adapter(adapter, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        told = file.metadata()
    assert json.loads(told["danqing"])["trigger"] == "wth cat"
    theirs = json.loads(told["lora_adapter_metadata"])
    assert (theirs["unet.r"], theirs["unet.lora_alpha"], theirs["text_encoder.r"]) == (4, 2.0, 4)


def half(path: Path) -> None:
    save_file({"unet.x.lora_A.weight": torch.ones(4, 8)}, path)


FAULTS = {
    "half": (half, "lacks a half of unet.x"),
    "other kind": (
        lambda path: save_file({"lora_unet_x.oft_blocks": torch.ones(4, 8)}, path),
        "has lora_unet_x.oft_blocks, which is of no LoRA",
    ),
    "metadata": (
        lambda path: save_file({"<a>": torch.ones(1, 8)}, path, {"danqing": "{"}),
        "damaged metadata",
    ),
    "nan": (lambda path: save_file({"<a>": torch.full((1, 8), float("nan"))}, path), "NaN"),
    "cut": (lambda path: path.write_bytes(b"1234"), "truncated or not safetensors"),
}


@pytest.mark.parametrize(("make", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_bad_files_are_told_in_one_line(tmp_path: Path, make: Callable[..., Any], told: str) -> None:
    make(tmp_path / "bad.safetensors")
    with pytest.raises(BadWeights, match=told) as raised:
        read_adapter(tmp_path / "bad.safetensors")
    assert "\n" not in str(raised.value)
    assert "bad.safetensors" in str(raised.value)


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (open, ("/nonexistent/never",))


def test_words_of_other_programs(tmp_path: Path) -> None:
    rows = torch.randn(2, 32)
    torch.save({"string_to_param": {"*": rows}, "name": "whatever", "step": 9}, tmp_path / "cat.pt")
    save_file({"emb_params": rows}, tmp_path / "dog.safetensors")
    save_file({"<owl>": rows[0]}, tmp_path / "owl.safetensors")
    torch.save({"string_to_param": {"*": Evil()}}, tmp_path / "evil.pt")
    for file, name in (("cat.pt", "<cat>"), ("dog.safetensors", "<dog>")):
        adapter = read_adapter(tmp_path / file)
        assert torch.equal(adapter.words[name], rows)
        assert adapter.trigger == name
    assert torch.equal(read_adapter(tmp_path / "owl.safetensors").words["<owl>"], rows[:1])
    with pytest.raises(BadWeights, match="opens without running it"):
        read_adapter(tmp_path / "evil.pt")


def test_finding_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        BadBrief, match="unknown adapter 'my-cat': there is no adapter to choose from, or give"
    ):
        find_adapter("my-cat")
    write_adapter(word(), tmp_path / "adapters" / "my-cat.safetensors")
    assert find_adapter("my-cat").words.keys() == {"<my-cat>"}
    assert find_adapter("adapters/my-cat.safetensors").name == "my-cat"
    with pytest.raises(BadBrief, match="unknown adapter 'my-cta': did you mean 'my-cat'"):
        find_adapter("my-cta")
