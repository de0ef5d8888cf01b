"""The contrastive loss and the tokenizer against transformers and plain formulas."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from danqing.data.captions import STYLE_WORDS, plain_captions
from danqing.families.clip import build_clip
from danqing.training.clip import contrastive
from danqing.training.tokenizer import END, START, train_tokenizer

TEXTS = (
    "a cat",
    "A Red  Apple, 3D style!",
    "an unicorn's horn; it's 100% cute",
    "一只兔子，剪纸风格",
    "青花瓷风格的茶壶 teapot",
    "熊猫🐼 and 🚀👩‍🚀",
    "naïve café — œuvre",
    "ﾊﾝｶｸ ｶﾅ ひらがな 한국어",
    "e\u0301 combining",
    "\u0000\u0007 control",
    "...!!??",
    "",
)


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    names = (("cat", "猫"), ("red apple", "苹果"), ("rabbit", "兔子"), ("teapot", "茶壶"))
    said = [
        text
        for name in names
        for style in ("3d", "paper-cut", "porcelain")
        for text in plain_captions(*name, style)
    ]
    return train_tokenizer(said, merges=100, length=48)


@pytest.fixture(scope="module")
def clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    torch.manual_seed(0)
    return build_clip("tiny", tokenizer).eval()


def batch(tokenizer: CLIPTokenizer, count: Any = 5) -> dict[str, Tensor]:
    tokens = tokenizer(
        ["cat", "red apple", "兔子", "a teapot", "🐼"][:count], padding=True, return_tensors="pt"
    )
    pixels = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask, "pixel_values": pixels}


def gradients(model: CLIPModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_loss_and_gradients_of_transformers(clip: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    """Measured: exact on the loss, 2.4e-6 on gradients up to 2."""
    given = batch(tokenizer)
    theirs = clip(**given, return_loss=True).loss
    expected = gradients(clip, theirs)
    pictures = clip.get_image_features(pixel_values=given["pixel_values"]).pooler_output
    words = clip.get_text_features(given["input_ids"], given["attention_mask"]).pooler_output
    mine = contrastive(pictures, words, clip.logit_scale.exp())
    found = gradients(clip, mine)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
    assert expected["logit_scale"].abs() > 1e-4


@pytest.mark.parametrize("count", [2, 7])
def test_loss_by_hand(count: int) -> None:
    """Minus the mean log-probability of the right partner, over rows and over columns. Measured: 1.3e-7."""
    a, b = torch.randn(2, count, 6, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    total = 0.0
    cosine = [[float(x @ y / (x.norm() * y.norm())) for y in b] for x in a]
    for k in range(count):
        row = sum(math.exp(9 * (cosine[k][j] - cosine[k][k])) for j in range(count))
        column = sum(math.exp(9 * (cosine[j][k] - cosine[k][k])) for j in range(count))
        total += (math.log(row) + math.log(column)) / (2 * count)
    assert float(contrastive(a, b, torch.tensor(9.0))) == pytest.approx(total, abs=1e-6)
    for one, other in ((b, a), (3 * a, b / 7)):
        assert float(contrastive(one, other, torch.tensor(9.0))) == pytest.approx(total, abs=1e-6)


# ---- the tokenizer


def cleaned(text: str) -> str:
    """What CLIP's tokenizer reads: composed and in lower case. Spaces are told apart by words only."""
    return "".join(unicodedata.normalize("NFC", text).lower().split())


def test_every_byte_is_a_token_inside_and_at_the_end_of_a_word(tokenizer: CLIPTokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    assert len(alphabet) == 256
    assert all(byte in vocabulary and f"{byte}</w>" in vocabulary for byte in alphabet)
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))


def test_marks(tokenizer: CLIPTokenizer) -> None:
    vocabulary = tokenizer.get_vocab()
    assert vocabulary[END] == max(vocabulary.values()) == tokenizer.eos_token_id == tokenizer.pad_token_id
    assert vocabulary[START] == tokenizer.bos_token_id == vocabulary[END] - 1
    assert tokenizer.model_max_length == 48


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_is_unknown_and_every_text_comes_back(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert not {tokenizer.bos_token_id, tokenizer.eos_token_id} & set(ids[1:-1])
    assert cleaned(tokenizer.decode(ids, skip_special_tokens=True)) == cleaned(text)


def test_frequent_words_are_one_token_and_long_texts_are_cut(tokenizer: CLIPTokenizer) -> None:
    assert len(tokenizer("cat").input_ids) == len(tokenizer("猫").input_ids) == 3
    assert tokenizer("CAT").input_ids == tokenizer(" cat ").input_ids == tokenizer("cat").input_ids
    cut = tokenizer("cat " * 99, truncation=True).input_ids
    assert len(cut) == 48
    assert cut[-1] == tokenizer.eos_token_id


def test_training_repeats() -> None:
    """A resumed run needs it, and ties are broken by ids that the library takes from a hash map."""
    names = (("cat", "猫"), ("red apple", "苹果"), ("owl", "猫头鹰"), ("rocket", "火箭"))
    said = [text for name in names for style in STYLE_WORDS for text in plain_captions(*name, style)]
    first = train_tokenizer(said).get_vocab()
    assert all(train_tokenizer(iter(said)).get_vocab() == first for _ in range(5))


def test_no_more_merges_than_asked_for() -> None:
    said = [text for style in STYLE_WORDS for text in plain_captions("red apple", "苹果", style)]
    assert len(train_tokenizer(said, merges=20)) == 2 * 256 + 20 + 2


def test_words_are_pooled_at_the_end_mark(clip: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    """The first end mark, whatever padding follows it."""
    short = tokenizer("cat", return_tensors="pt")
    padded = tokenizer("cat", padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        states = clip.text_model(**padded).last_hidden_state
        at = padded.input_ids[0].tolist().index(tokenizer.eos_token_id)
        pooled = clip.text_projection(states[:, at])
        for tokens in (short, padded):
            torch.testing.assert_close(
                clip.get_text_features(**tokens).pooler_output, pooled, rtol=0, atol=1e-6
            )
        unmasked = clip.get_text_features(padded.input_ids).pooler_output
        torch.testing.assert_close(unmasked, pooled, rtol=0, atol=1e-6)  # as painters read it
