"""Our adapters against diffusers with peft, and against its textual inversion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

from danqing.core.seeds import Seeds
from danqing.families.stable_diffusion.painter import painter_of, random_components
from danqing.tuning.adapter import Adapter, attach
from danqing.tuning.adapter_files import read_adapter, write_adapter
from danqing.tuning.lora import Factors
from danqing.weights.diffusers_folder import StableDiffusionComponents
from tests.adapters import output, random_adapter
from tests.parity.test_stable_diffusion import pipeline_of
from tests.test_adapters import TO_Q, kohya


@pytest.fixture
def components() -> StableDiffusionComponents:
    return random_components()


def their_output(pipeline: StableDiffusionPipeline, prompt: Any = "a cat") -> Tensor:
    """`tests.adapters.output`, by their encoder and their layers."""
    states, _ = pipeline.encode_prompt(prompt, "cpu", 1, do_classifier_free_guidance=False)
    x = Seeds([5]).normal(8, 4, 4)
    with torch.no_grad():
        return pipeline.unet(x, torch.full((1,), 500.0), encoder_hidden_states=states).sample


def ours(components: StableDiffusionComponents, adapter: Adapter, weight: Any = 1.0) -> Tensor:
    painter = painter_of(components)
    with attach(painter, {adapter: weight}):
        return output(painter)


@pytest.mark.parametrize("dialect", ["peft", "kohya"])
def test_layers(components: StableDiffusionComponents, tmp_path: Path, dialect: str) -> None:
    """Rank 4, alpha 2, UNet and text encoder; one layer of ours has another rank and alpha. Exact."""
    adapter = random_adapter(painter_of(components))
    path = tmp_path / "pytorch_lora_weights.safetensors"
    if dialect == "kohya":  # in which diffusers 0.42 asks all text layers to share a rank
        kohya(adapter, path)
    else:
        layers = {**adapter.factors, TO_Q: Factors(torch.ones(2, 32) / 9, torch.ones(32, 2) / 9, 7.0)}
        adapter = replace(adapter, factors=layers)
        write_adapter(adapter, path)
    mine, again, plain = (
        ours(components, adapter),
        ours(components, read_adapter(path)),
        output(painter_of(components)),
    )
    pipeline = pipeline_of(components)
    pipeline.load_lora_weights(tmp_path, weight_name=path.name)
    theirs = their_output(pipeline)
    assert torch.equal(again, mine)
    assert (mine - plain).abs().max() > 0.01
    torch.testing.assert_close(mine, theirs, rtol=0, atol=5e-6)


def test_their_file_in_our_hands(components: StableDiffusionComponents, tmp_path: Path) -> None:
    """Written by diffusers from peft layers with its own settings. Measured: 5e-7."""
    adapter = random_adapter(painter_of(components), text=False)
    layers = {}
    for name, change in adapter.factors.items():
        layer = name.removeprefix("unet.")
        layers[f"{layer}.lora_A.weight"], layers[f"{layer}.lora_B.weight"] = change.down, change.up
    settings = {"r": 4, "lora_alpha": 2, "alpha_pattern": {"attn1.to_q": 6}, "use_rslora": True}
    pipeline = pipeline_of(components)
    pipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=layers,
        unet_lora_adapter_metadata={
            **settings,
            "target_modules": [layer.rpartition(".lora")[0] for layer in layers],
        },
    )
    mine = ours(components, read_adapter(tmp_path / "pytorch_lora_weights.safetensors"))
    pipeline.load_lora_weights(tmp_path)
    torch.testing.assert_close(mine, their_output(pipeline), rtol=0, atol=5e-6)


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("dialect", ["diffusers", "a1111"])
def test_learned_words(
    components: StableDiffusionComponents, tmp_path: Path, vectors: int, dialect: str
) -> None:
    """The same ids, rows and states, bit for bit."""
    rows = torch.randn(vectors, 32, generator=torch.Generator().manual_seed(0))
    prompt, painter = "a <my-cat> and <my-cat>, flat", painter_of(components)
    if dialect == "a1111":
        path = tmp_path / "<my-cat>.pt"
        torch.save({"string_to_param": {"*": rows}, "name": "<my-cat>"}, path)
        adapter = Adapter("my-cat", words={"<my-cat>": next(iter(read_adapter(path).words.values()))})
    else:
        path = tmp_path / "my-cat.safetensors"
        write_adapter(Adapter("my-cat", words={"<my-cat>": rows}), path)
        adapter = read_adapter(path)
    with attach(painter, {adapter: 1.0}):
        ids = painter.text.tokenizer(prompt, add_special_tokens=False).input_ids
        embedded = painter.text.model.get_input_embeddings()(torch.tensor(ids))
        states = painter.text("a <my-cat>").tokens
    pipeline = pipeline_of(components)
    pipeline.load_textual_inversion(str(path))
    converted = pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer)
    theirs = pipeline.tokenizer(converted, add_special_tokens=False).input_ids
    assert ids == theirs
    assert torch.equal(embedded, pipeline.text_encoder.get_input_embeddings()(torch.tensor(theirs)))
    assert torch.equal(states, pipeline.encode_prompt("a <my-cat>", "cpu", 1, False)[0])


def test_an_old_file_of_diffusers(components: StableDiffusionComponents, tmp_path: Path) -> None:
    """`.lora.down` and `.lora.up`. Measured: 5e-7."""
    adapter = random_adapter(painter_of(components), text=False, alpha=4.0)
    tensors = {}
    for name, change in adapter.factors.items():
        tensors[f"{name}.lora.down.weight"], tensors[f"{name}.lora.up.weight"] = change.down, change.up
    save_file(tensors, tmp_path / "old.safetensors")
    mine = ours(components, read_adapter(tmp_path / "old.safetensors"))
    pipeline = pipeline_of(components)
    pipeline.load_lora_weights(tmp_path, weight_name="old.safetensors")
    torch.testing.assert_close(mine, their_output(pipeline), rtol=0, atol=5e-6)
