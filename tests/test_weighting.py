"""What the weight of a word does: as in A1111, in ComfyUI and in Compel."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from danqing.conditioning.grammar import Span
from danqing.conditioning.text import WEIGHTINGS, TextEncoder, TextEncoderPair, weigh_as, weigh_states
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.seeds import Seeds
from danqing.families.stable_diffusion.painter import painter_of, random_components
from danqing.interfaces.cli.options import command_line
from tests.single_files import SDXL, tiny

PARTS = random_components()
ENCODER = TextEncoder.of(PARTS.tokenizer, PARTS.text_encoder)
CHUNK = (Span("a "), Span("red", 1.4), Span(" fox "), Span("in", 0.3))


def words() -> Any:
    return ENCODER("a red fox in").tokens


def token_weights() -> Any:
    weights = torch.ones(1, ENCODER.max_length)
    weights[0, 2:5] = 1.4
    weights[0, 8:10] = 0.3
    return weights[..., None]


def test_each_token_has_the_weight_of_its_word() -> None:
    assert torch.equal(ENCODER.weights(CHUNK), token_weights()[..., 0])


def test_a1111() -> None:
    found = ENCODER.encode_weighted(CHUNK).tokens
    assert torch.equal(found, weigh_states(words(), token_weights()[..., 0]))


def test_comfy() -> None:
    """From the states of the empty text on, token by token."""
    empty = ENCODER("").tokens
    expected = empty + (words() - empty) * token_weights()
    found = weigh_as(ENCODER, "comfy").encode_weighted(CHUNK).tokens
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    still = (token_weights() == 1).expand_as(found)
    torch.testing.assert_close(found[still], words()[still], rtol=0, atol=1e-6)


def test_compel() -> None:
    """Words below 1 are mixed with a text that does not see them: half of it at weight 0.5, all at 0."""
    ids = PARTS.tokenizer(
        "a red fox in", padding="max_length", max_length=ENCODER.max_length, return_tensors="pt"
    ).input_ids
    mask = torch.ones_like(ids)
    mask[0, 8:10] = 0
    with torch.no_grad():
        unseen = PARTS.text_encoder(ids, mask).last_hidden_state
    empty = ENCODER("").tokens
    with_it, without = (empty + (states - empty) * token_weights() for states in (words(), unseen))
    share = math.tan(0.7 * math.pi / 2)
    expected = (with_it + share * without) / (1 + share)
    found = weigh_as(ENCODER, "compel").encode_weighted(CHUNK).tokens
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    strong = (Span("a "), Span("red", 1.4))
    comfy, compel = (weigh_as(ENCODER, name).encode_weighted(strong).tokens for name in ("comfy", "compel"))
    assert torch.equal(comfy, compel)


def test_weight_1_is_nothing() -> None:
    for name in ("comfy", "compel"):
        found = weigh_as(ENCODER, name).encode_weighted((Span("a "), Span("red fox in"))).tokens
        torch.testing.assert_close(found, words(), rtol=0, atol=1e-6)


def test_both_text_encoders_of_xl() -> None:
    components = tiny(SDXL)
    pair = TextEncoderPair.of(
        (components.tokenizer, components.text_encoder), (components.tokenizer_2, components.text_encoder_2)
    )
    for name in WEIGHTINGS:
        weighed = weigh_as(pair, name)
        tokens = weighed.encode_weighted(CHUNK).tokens
        width = components.text_encoder.config.hidden_size
        assert torch.equal(tokens[..., :width], weighed.first.encode_weighted(CHUNK).tokens)
        assert torch.equal(tokens[..., width:], weighed.second.encode_weighted(CHUNK).tokens)


def test_pictures_follow_and_keep_it() -> None:
    painter = painter_of(PARTS)

    def paint(prompt: str, weighting: str) -> torch.Tensor:
        brief = Brief(prompt=prompt, weighting=weighting, steps=2, seed=1, native=True).resolve(painter.card)
        cond = painter.condition(brief)
        *_, canvas = painter.steps(brief, cond, painter.begin(brief, cond, Seeds([1])))
        return canvas.state

    weighed = [paint("a (red:1.4) fox (in:0.3)", name) for name in WEIGHTINGS]
    assert all((one - two).abs().max() > 1e-5 for one, two in pairwise(weighed))
    plain = [paint("a red fox in", name) for name in WEIGHTINGS]
    assert torch.equal(plain[0], plain[1])
    assert torch.equal(plain[0], plain[2])
    brief = Brief(prompt="a (red:1.4) fox", weighting="comfy")
    assert "--weighting" in shlex.split(command_line(brief))


def test_what_is_refused() -> None:
    with pytest.raises(BadBrief, match="weighting 'invoke'"):
        Brief.of("a cat", weighting="invoke")
    plain = replace(painter_of(PARTS), text=lambda _: ENCODER("a"))
    brief = Brief(prompt="a cat", weighting="compel").resolve(plain.card)
    with pytest.raises(BadBrief, match="this model does not weigh words as compel: leave weighting out"):
        plain.condition(brief)
