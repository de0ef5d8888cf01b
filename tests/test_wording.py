"""Open wording: sentences of a grammar, and an encoder that hears in them what it hears in plain captions."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from danqing.data.captions import COUNTS
from danqing.data.lexicon import Lexicon
from danqing.data.scenes import COLOURS
from danqing.data.wording import Subject, open_caption, plain_caption
from danqing.data.wording_grammar import filler_words, grammar
from danqing.families.stable_diffusion.painter import random_painter
from danqing.training.trainer import Trainer, TrainOptions
from danqing.training.wording import WordingObjective, WordingOptions, attention_output

LEXICON: Lexicon = {"cat": (("kitty", "mouser"), ("猫咪",))}
CAT = Subject("cat", "cat", "猫")
MADE = {"np", "np_zh", "known", "known_zh", "filler", "fillerword", "filler_zh", "style", "x"}


def objective() -> WordingObjective:
    return WordingObjective(random_painter(), LEXICON, WordingOptions(bank=32, queries=8))


def test_every_rule_that_is_named_exists() -> None:
    named = {
        name
        for ways in grammar().values()
        for way in ways
        for name in re.findall(r"\{\W*([\w.-]+)\??\}", way)
    }
    assert named <= grammar().keys() | MADE


def test_common_words_are_of_two_languages() -> None:
    assert len(filler_words("en")) > 1000 < len(filler_words("zh"))
    assert not {"cat", "style", "red"} & set(filler_words("en"))


@given(st.integers(0, 2**31), st.sampled_from(("en", "zh")), st.sampled_from((None, "3d", "ink-wash")))
def test_a_sentence_is_finished(seed: int, language: str, style: str | None) -> None:
    said = open_caption(CAT, language, style, random.Random(seed))
    assert said
    assert not set(said) & set("{}@|")
    assert said == open_caption(CAT, language, style, random.Random(seed))


def test_sentences_name_their_subject_and_are_many() -> None:
    rng = random.Random(0)
    said = [open_caption(CAT, "en", None, rng).lower() for _ in range(400)]
    assert len(set(said)) > 380
    assert sum("cat" in one or "猫" in one for one in said) > 390  # but for slips of fingers


@pytest.mark.parametrize(
    ("subject", "english", "chinese"),
    [
        (CAT, "a cat, flat style", "猫，扁平风格"),
        (Subject("cat", "cat", "猫", colour="red"), "a red cat, flat style", "红色的猫，扁平风格"),
        (Subject("cat", "cat", "猫", count=2), "two cats, flat style", "两个猫，扁平风格"),
        (Subject("owl", "owl", "猫头鹰"), "an owl, flat style", "猫头鹰，扁平风格"),
    ],
)
def test_plain_captions(subject: Subject, english: str, chinese: str) -> None:
    assert plain_caption(subject, "en", "flat") == english
    assert plain_caption(subject, "zh", "flat") == chinese


def test_pairs_keep_the_colour_and_the_number() -> None:
    wording, rng = objective(), random.Random(2)
    pairs = [wording.pair(rng) for _ in range(600)]
    assert ("", "") in pairs
    for known, said in pairs:
        for word in (*COLOURS, *(number for number, _ in COUNTS.values())):
            if known.startswith((f"a {word} ", f"an {word} ", f"{word} ")):
                assert word[:3] in said.lower() or not said.isascii() or len(said) < len(known) + 4


def test_queries_hear_what_the_layer_would_say() -> None:
    """Of its own queries a layer says what diffusers' attention says."""
    wording = objective()
    layer = wording._layers[0]
    states, picture = torch.randn(2, 7, layer.to_k.in_features), torch.randn(2, 5, layer.to_q.in_features)
    asked = layer.to_q(picture)
    expected = layer(picture, encoder_hidden_states=states)
    found = torch.stack([attention_output(layer, asked[k], states[k : k + 1])[0] for k in range(2)])
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_same_caption_sounds_the_same() -> None:
    wording = objective()
    ids = wording.ids(["a cat", "a dog, 3d style"])
    losses = wording({"plain": ids, "open": ids, "queries": torch.arange(8)})
    assert float(losses["loss"].detach()) < 0.02  # pads far behind the words are taken for alike


def test_the_encoder_learns_and_the_painter_stays(tmp_path: Path) -> None:
    wording = objective()
    before = [weight.clone() for weight in wording._unet.parameters()]
    rng = torch.Generator().manual_seed(0)
    batch = wording.batch(64, rng)
    first = float(wording(batch)["loss"].detach())
    Trainer(
        wording, TrainOptions(steps=30, batch=32, lr=1e-3, warmup=1, ema=0.0, precision="no"), tmp_path
    ).train()
    assert float(wording(batch)["loss"].detach()) < first
    assert all(torch.equal(one, other) for one, other in zip(before, wording._unet.parameters(), strict=True))
    wording.export(tmp_path / "text_encoder")
    assert (tmp_path / "text_encoder" / "model.safetensors").is_file()
    assert 0 <= wording.accuracy("en", count=24) <= 1
