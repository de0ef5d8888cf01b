"""Teaching a text encoder further words: token for token, and nothing else changes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import CLIPTextModel

from danqing.core.errors import BadData
from danqing.data.captions import STYLE_WORDS
from danqing.data.lexicon import PROBES, lexicon, split_lexicon
from danqing.data.scenes import COLOURS, OTHER_COLOURS
from danqing.data.vocabulary import vocabulary
from danqing.families import open_painter
from danqing.families.stable_diffusion.painter import random_painter
from danqing.interfaces.cli.main import run
from danqing.training.trainer import Trainer, TrainOptions
from danqing.training.words import WordsObjective, aligned_tokens
from tests.test_recipes import folder_of
from tests.tiny import stickers

LEXICON = {"cat": (("kitty", "mouser", "tom"), ("猫咪",)), "rocket": (("booster", "spaceship"), ())}
PAD = 0

ids = st.lists(st.integers(1, 4), max_size=4)


def row(*parts: list[int]) -> Tensor:
    told = [token for part in parts for token in part]
    return torch.tensor([told + [PAD] * (16 - len(told))])


@given(ids, ids, ids, ids)
def test_every_token_beside_the_word_has_its_own_twin(
    before: list[int], word: list[int], other: list[int], after: list[int]
) -> None:
    known, anew = row(before, word, after), row(before, other, after)
    place = aligned_tokens(known, anew, torch.tensor([len(other) - len(word)]))[0]
    assert place.min() >= 0
    assert place.max() < 16
    assert known[0, place[: len(before)]].tolist() == before
    end, start = len(before) + len(other) + len(after), len(before) + len(other)
    assert anew[0, start:end].tolist() == known[0, place[start:end]].tolist()
    assert set(known[0, place[end:]].tolist()) <= {PAD}  # pads stand for pads


def test_twins_by_hand() -> None:
    """ "a [dog] ." and "a [pup py] .", both ways."""
    known, anew = torch.tensor([[1, 2, 3, 9, 0, 0, 0]]), torch.tensor([[1, 5, 6, 3, 9, 0, 0]])
    assert aligned_tokens(known, anew, torch.tensor([1])).tolist() == [[0, 1, 1, 2, 3, 4, 5]]
    assert aligned_tokens(anew, known, torch.tensor([-1])).tolist() == [[0, 2, 3, 4, 5, 6, 6]]


def objective() -> WordsObjective:
    return WordsObjective(random_painter(), stickers().rows, LEXICON)


def test_words_are_learned_and_the_rest_is_kept(tmp_path: Path) -> None:
    """All learned words are nearest to their names afterwards; known captions hardly move."""
    asked = objective()
    known = asked._ids(["a cat, 3d style", "red apple, flat style", "猫，剪纸风格"])
    before = asked.model(input_ids=known).last_hidden_state.detach()
    assert asked.accuracy(LEXICON, "en") < 0.6
    options = {"batch": 32, "lr": 5e-3, "warmup": 5, "weight_decay": 0.0, "ema": 0.8, "precision": "no"}
    Trainer(asked, TrainOptions(steps=150, sheet_every=10**9, **options), tmp_path).train()
    assert asked.accuracy(asked.learned, "en") == 1
    assert (asked.model(input_ids=known).last_hidden_state - before).square().mean() < 0.05 * before.var()


def test_the_teacher_and_the_unet_are_left_alone(tmp_path: Path) -> None:
    asked = objective()
    frozen = [*asked._teacher.parameters(), *asked.painter.modules["unet"].parameters()]
    before = [weight.detach().clone() for weight in frozen]
    options = {"batch": 8, "lr": 5e-3, "warmup": 1, "precision": "no"}
    Trainer(asked, TrainOptions(steps=2, **options), tmp_path).train()
    assert all(torch.equal(a, b) for a, b in zip(before, frozen, strict=True))


def test_pairs_differ_in_the_word_alone() -> None:
    asked = objective()
    rng = random.Random(0)
    pairs = [asked._pair(rng) for _ in range(300)]
    anew = [(known, said) for known, said in pairs if known != said]
    assert 0.15 < len(anew) / len(pairs) < 0.5  # half of the things have words, three in ten are kept
    words = {word: name for name, (english, _) in LEXICON.items() for word in english} | {"猫咪": "猫"}
    for known, said in anew:
        word = next(word for word in words if word in said)
        assert said.replace(word, words[word]) == known


def test_what_has_no_name_to_change_is_kept_and_so_is_nothing() -> None:
    """Scenes of several things have no concept; guidance asks what is said of no words at all."""
    scene = {"phrase": "two cats", "phrase_zh": "两只猫", "style": "flat"}
    coloured = {"phrase": "blue cat", "concept": "cat", "style": "flat"}  # in English alone
    asked = WordsObjective(random_painter(), [scene, coloured], LEXICON)
    rng = random.Random(0)
    pairs = [asked._pair(rng) for _ in range(300)]
    assert ("", "") in pairs
    assert all(known == said for known, said in pairs if "two cats" in known or "两只猫" in known)
    assert any("两只猫" in known for known, _ in pairs)
    assert any("blue kitty" in said for _, said in pairs)


def test_a_taught_encoder_is_a_part_of_a_model(tmp_path: Path) -> None:
    data = folder_of(stickers(128), tmp_path / "data")
    rows = (data / "metadata.jsonl").read_text("utf-8").replace('"owl"', '"cat"')
    (data / "metadata.jsonl").write_text(rows, "utf-8")
    asked = ["train", "words", "--data", str(data), "--run", str(tmp_path / "words"), "--steps", "1"]
    assert run(asked) == 0
    text_encoder = CLIPTextModel.from_pretrained(tmp_path / "words" / "text_encoder")
    before = open_painter("stickers").modules["text_encoder"].state_dict()
    moved = [
        name for name, weight in text_encoder.state_dict().items() if not torch.equal(weight, before[name])
    ]
    assert moved


def test_a_lexicon_for_other_things_is_refused() -> None:
    with pytest.raises(BadData, match="no further words"):
        WordsObjective(random_painter(), stickers().rows, {"zeppelin": (("airship",), ())})


def sides() -> Iterator[tuple[str, str]]:
    yield from ((word, name) for name, both in lexicon().items() for side in both for word in side)


def test_the_lexicon_is_for_known_things_and_says_nothing_twice() -> None:
    """Nor does it take a word by which captions tell colours, styles or that it is a picture."""
    words = [word for word, _ in sides()]
    told = {*COLOURS, *OTHER_COLOURS, *(word for both in STYLE_WORDS.values() for word in both)}
    assert not told & set(words)
    assert not {"drawing", "picture", "icon"} & set(words)
    assert set(lexicon()) == set(vocabulary())
    assert len(set(words)) == len(words) > 3000
    assert not set(words) & {*vocabulary(), *vocabulary().values()}


def test_one_word_in_fifty_is_left_out() -> None:
    learned, left_out = (
        [word for both in part.values() for side in both for word in side]
        for part in split_lexicon(lexicon())
    )
    assert sorted(learned + left_out) == sorted(word for word, _ in sides())
    assert 0.5 / PROBES < len(left_out) / len(learned) < 2 / PROBES
