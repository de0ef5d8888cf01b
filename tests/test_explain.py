"""Heat maps of words: what is recorded of a UNet's attention, and which word each map is of."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.attention_processor import Attention
from PIL import Image
from torch import Tensor

from danqing import explain, paint
from danqing.apps import _explain
from danqing.apps._generate import GenerateOptions, generate
from danqing.conditioning.names import Names
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.families import gan
from danqing.families.stable_diffusion.painter import random_painter
from danqing.nets.attention_maps import AttentionMaps
from tests.single_files import SD1, tiny

OPTIONS: dict[str, Any] = {"seed": 3, "steps": 3, "width": 128, "height": 64}


class Probe:
    """An attention processor of diffusers' kind that keeps its weights, written without its helpers."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        assert attention_mask is None
        split = [
            linear(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for linear, states in (
                (attn.to_q, hidden_states),
                (attn.to_k, encoder_hidden_states),
                (attn.to_v, encoder_hidden_states),
            )
        ]
        query, key, value = split
        weights = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1)
        self.weights.append(weights)
        return attn.to_out[0]((weights @ value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


@torch.no_grad()
def test_the_maps_are_the_attention_of_the_rows_that_read_the_text() -> None:
    unet = tiny(SD1).unet
    text, other = torch.randn(2, 1, 7, unet.config.cross_attention_dim)
    x, t = torch.randn(3, 4, 16, 8), torch.tensor(500)
    words = torch.cat([other, text, text])
    maps = AttentionMaps(text, 16, 8)
    plain = unet(x, t, words).sample
    with maps.record(unet):
        recorded = unet(x, t, words).sample
    assert torch.equal(plain, recorded)
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    probe = Probe()
    for layer in layers:
        layer.set_processor(probe)
    unet(x, t, words)
    total = torch.zeros(7, 16, 8)
    for weights in probe.weights:
        mean = weights[1:].mean((0, 1)).T  # the last two rows, all heads
        height = round(math.sqrt(mean.shape[1] * 2))
        total += F.interpolate(mean.unflatten(1, (height, height // 2))[None], (16, 8), mode="bilinear")[0]
    torch.testing.assert_close(maps.mean(), total / len(layers), rtol=0, atol=1e-5)
    torch.testing.assert_close(maps.mean().sum(0), torch.ones(16, 8), rtol=0, atol=1e-5)


def test_nothing_stays_in_the_network_and_nothing_is_made_up() -> None:
    unet = tiny(SD1).unet
    maps = AttentionMaps(torch.randn(1, 7, unet.config.cross_attention_dim), 8, 8)
    with pytest.raises(RuntimeError, match="stop"), maps.record(unet):
        raise RuntimeError("stop")
    assert not any(module._forward_pre_hooks for module in unet.modules())
    with pytest.raises(ValueError, match="no row"):
        maps.mean()


def test_recording_changes_no_pixel_and_sees_every_step() -> None:
    painter = random_painter()
    brief = Brief.of("a cat", negative_prompt="a dog", guidance=4.0, **OPTIONS).resolve(painter.card)
    conditioning = painter.condition(brief)
    options = GenerateOptions(painter, conditioning=conditioning)
    [plain] = generate(brief, options)
    scale = painter.card.scale * painter.vae.factor
    maps = AttentionMaps(conditioning.tokens, brief.height // scale, brief.width // scale)
    with maps.record(painter.modules["unet"]):
        [recorded] = generate(brief, options)
    assert plain.image.tobytes() == recorded.image.tobytes()
    layers = sum(name.endswith("attn2") for name, _ in painter.modules["unet"].named_modules())
    assert maps._count == layers * brief.steps


def words_of(prompt: str, painter: Any) -> list[str]:
    brief = Brief.of(prompt, **OPTIONS).resolve(painter.card)
    length = painter.condition(brief).tokens.shape[1]
    maps = torch.arange(float(length)).view(-1, 1, 1)
    found = _explain._maps_of_words(painter, brief, maps)
    places = [float(place) for _, place in found]
    assert places == sorted(places)  # in the order of the text
    return [word for word, _ in found]


def test_each_word_has_a_map_and_signs_have_none() -> None:
    painter = random_painter()
    assert words_of("a red, red apple!", painter) == ["a", "red", "red", "apple"]
    assert words_of("a (red:1.3) apple", painter) == ["a", "red", "apple"]
    assert words_of("a cat AND a dog", painter) == ["a", "cat"]  # the first part
    assert "".join(words_of("红苹果", painter)) == "红苹果"


def test_a_sheet_has_a_cell_for_the_picture_and_for_each_word() -> None:
    painter = random_painter()
    [sheet] = explain("a cat", painter=painter, **OPTIONS)
    assert sheet.image.size == (3 * (_explain.SIDE + 8), 128 + 8 + 36)  # 2:1, three cells
    assert (sheet.info.app, sheet.brief.prompt) == ("explain", "a cat")
    [plain] = paint("a cat", painter=painter, background="white", **OPTIONS)
    cell = sheet.image.crop((4, 4, 4 + _explain.SIDE, 4 + 128))
    assert cell.tobytes() == plain.image.resize(cell.size, Image.Resampling.LANCZOS).tobytes()
    [again] = explain(painter=painter, **sheet.info.inputs)
    assert again.image.tobytes() == sheet.image.tobytes()


def test_a_map_is_red_where_it_is_high() -> None:
    heat = torch.zeros(8, 8)
    heat[:, 4:] = 1
    page = _explain.sheet(Image.new("RGB", (64, 64), "white"), [("x", heat)])
    left, right = (page.getpixel((_explain.SIDE + 12 + x, 128)) for x in (20, 236))
    assert left == (255, 255, 255)
    assert isinstance(right, tuple)
    assert right[0] > 2 * right[1]


def test_who_reads_no_words_by_attention_is_refused() -> None:
    with pytest.raises(BadBrief, match="has no attention to words that could be shown"):
        explain("a cat", painter=gan.random_painter("tiny", Names(("cat", "dog"))), seed=1)
    with pytest.raises(BadBrief, match="prompt is empty"):
        explain(" ", painter=random_painter())
