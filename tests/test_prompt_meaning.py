"""What weights, parts, chunks, schedules and tastes do to the numbers, each against its formula."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from danqing.apps.paint import paint
from danqing.conditioning.encode import encode
from danqing.conditioning.grammar import parse
from danqing.conditioning.midjourney import stylize_guidance, turn_towards, with_chaos_and_weird
from danqing.conditioning.prompt import expand_prompt
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.painter import Canvas, Conditioning, InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import Guidance, answer_each, compose, guide, guide_calls_scheduled
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.samplers import SAMPLERS, run_sampler
from danqing.diffusion.schedule import NO_NOISE, Level
from danqing.families.stable_diffusion.painter import random_painter
from tests.toy import Toy

LEVEL = Level(alpha=0.6, sigma=0.8, t=500.0)


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return random_painter()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))


def brief_of(painter: DiffusionPainter, prompt: str, **fields: Any) -> ResolvedBrief:
    return Brief.of(prompt, **{"seed": 1, "steps": 4, "native": True, **fields}).resolve(painter.card)


def condition(painter: DiffusionPainter, prompt: str, **fields: Any) -> Conditioning:
    return painter.condition(brief_of(painter, prompt, **fields))


def tokens(painter: DiffusionPainter, prompt: str, **fields: Any) -> Tensor:
    return condition(painter, prompt, **fields).tokens


# weights and chunks


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [("a cat", "a cat"), ("  a (cat:1) [|]", "a cat"), (r"\(a\)", "(a)"), ("([cat])", "cat"), ("a::3", "a")],
)
def test_a_weight_of_one_is_exactly_the_plain_prompt(
    painter: DiffusionPainter, prompt: str, plain: str
) -> None:
    conditioning = condition(painter, prompt)
    assert torch.equal(conditioning.tokens, painter.text(plain).tokens)
    assert torch.equal(conditioning.negative.tokens, painter.text("").tokens)
    assert (conditioning.weight, conditioning.others, conditioning.schedule) == (None, (), ())


def test_weights_multiply_states_and_keep_their_mean_length(painter: DiffusionPainter) -> None:
    """A token of the tiny tokenizer is a byte: begin, a, c, a, t, b, end, ..."""
    states = painter.text("a cat b").tokens
    weights = torch.ones(16)
    weights[2:5] = -1.5
    heavier = states * weights[:, None]
    expected = heavier * (states.square().sum(-1).sqrt().mean() / heavier.square().sum(-1).sqrt().mean())
    torch.testing.assert_close(tokens(painter, "a (cat:-1.5) b"), expected, rtol=0, atol=1e-5)


def test_a_character_of_many_bytes_has_one_weight(painter: DiffusionPainter) -> None:
    plain, heavy = painter.text("猫ab").tokens, tokens(painter, "(猫:2)ab")
    ratios = (heavy / plain)[0].mean(-1)
    torch.testing.assert_close(ratios / ratios[0], torch.tensor([1.0, 2, 2, 2, *[1] * 12]))


def test_the_negative_prompt_has_weights(painter: DiffusionPainter) -> None:
    conditioning = condition(painter, "a", negative_prompt="(blue:1.5) AND b::2")
    assert torch.equal(
        conditioning.negative.tokens,
        painter.text.encode_weighted(parse("(blue:1.5) \\AND b\\::2").parts[0].chunks[0]).tokens,
    )
    assert not torch.equal(conditioning.negative.tokens, tokens(painter, "blue AND b::2"))


def test_chunks_are_encoded_alone_and_stand_side_by_side(painter: DiffusionPainter) -> None:
    expected = torch.cat([painter.text("a cat").tokens, tokens(painter, "(b:2)")], dim=1)
    assert torch.equal(tokens(painter, "a cat BREAK (b:2)"), expected)


def test_words_that_do_not_fit_are_told_wherever_they_stand(painter: DiffusionPainter) -> None:
    long = "abcdefghijklmnopqrst"
    for prompt in (long, f"a BREAK ({long}:1.2)", f"a AND {long}", f"[a:{long}:0.5]"):
        assert condition(painter, prompt).dropped == "opqrst"
    assert condition(painter, f"{long}1 AND {long}2").dropped == "opqrst1; opqrst2"


def test_an_encoder_without_weights_says_so() -> None:
    def plain(words: str) -> Conditioning:
        return Conditioning(torch.full((1, 1, 1), float(len(words))))

    with pytest.raises(BadBrief, match="cannot weigh words: write 'a cat' without brackets"):
        encode(plain, parse("a (cat)"), parse(""), 4)
    assert encode(plain, parse("a cat BREAK b"), parse(""), 4).tokens.flatten().tolist() == [5, 1]


# parts


def answer(painter: DiffusionPainter, words: Conditioning, x: Tensor, scale: float = 3.0) -> Tensor:
    with torch.no_grad():
        return guide(painter.network, words, Guidance(scale))(x, LEVEL)


def alone(painter: DiffusionPainter, prompt: str, x: Tensor) -> Tensor:
    return answer(painter, condition(painter, prompt), x, 1.0)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_equal_shares_are_the_mean(painter: DiffusionPainter, x: Tensor, scale: float) -> None:
    """Measured: 1.2e-7 on one processor, 1.1e-6 on another."""
    a, b = (answer(painter, condition(painter, prompt), x, scale) for prompt in ("cat", "dog"))
    both = answer(painter, condition(painter, "cat::1 dog::1"), x, scale)
    torch.testing.assert_close(both, (a + b) / 2, rtol=0, atol=1e-5)


def test_added_parts_are_equation_11(painter: DiffusionPainter, x: Tensor) -> None:
    """Liu et al., arXiv 2206.01714."""
    u, a, b = (alone(painter, prompt, x) for prompt in ("(blue)", "cat", "dog"))
    conditioning = condition(painter, "cat AND dog :-0.5", negative_prompt="(blue)")
    expected = u + 3.0 * (1.0 * (a - u) - 0.5 * (b - u))
    torch.testing.assert_close(answer(painter, conditioning, x), expected, rtol=0, atol=1e-5)
    one = u + 0.5 * (a - u)
    torch.testing.assert_close(
        answer(painter, condition(painter, "AND cat :0.5", negative_prompt="(blue)"), x, 1.0),
        one,
        rtol=0,
        atol=1e-5,
    )


def test_equal_parts_that_add_up_to_one_are_the_plain_prompt(painter: DiffusionPainter, x: Tensor) -> None:
    """Measured: 3.6e-7 on one processor, 2.0e-6 on another."""
    plain = answer(painter, condition(painter, "cat"), x)
    for prompt in ("cat :0.5 AND cat :0.5", "cat::1 cat::2", "cat :3 AND cat :-2"):
        torch.testing.assert_close(answer(painter, condition(painter, prompt), x), plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("prompt", "scale", "rows"),
    [("a", 3.0, 2), ("a AND b", 3.0, 3), ("a::1 b::2", 1.0, 2), ("a AND b", 1.0, 3), ("a AND b", 0.0, 1)],
)
def test_all_parts_are_asked_in_one_call(
    painter: DiffusionPainter, x: Tensor, prompt: str, scale: float, rows: int
) -> None:
    batches = []

    def network(x: Tensor, t: Tensor, words: Conditioning) -> Tensor:
        assert len(x) == len(t) == len(words)
        batches.append(len(x))
        return x

    guide(network, condition(painter, prompt), Guidance(scale))(x, LEVEL)
    assert batches == [rows]


def test_parts_that_do_not_add_up_to_one_need_a_negative(painter: DiffusionPainter) -> None:
    words = replace(condition(painter, "a AND b"), negative=None)
    with pytest.raises(ValueError, match="needs a negative"):
        guide(painter.network, words, Guidance(1.0))
    guide(painter.network, replace(condition(painter, "a::1 b"), negative=None), Guidance(1.0))


def attention(x: Tensor, _t: Tensor, words: Conditioning) -> Tensor:
    """A network that is cross-attention and nothing else."""
    scores = x.flatten(2).mean(1, keepdim=True)[..., :1] * words.tokens.sum(-1)[:, None]
    return x * (scores.softmax(-1) @ words.tokens).mean((1, 2)).view(-1, 1, 1, 1)


def test_parts_of_different_length_meet_without_padding(painter: DiffusionPainter, x: Tensor) -> None:
    short, long = condition(painter, "a"), condition(painter, "b BREAK c BREAK d")
    assert (short.tokens.shape[1], long.tokens.shape[1]) == (16, 48)
    u = guide(attention, replace(short.negative, negative=None), Guidance(1.0))(x, LEVEL)
    c = guide(attention, replace(long, negative=None), Guidance(1.0))(x, LEVEL)
    torch.testing.assert_close(guide(attention, long, Guidance(3.0))(x, LEVEL), u + 3 * (c - u))


def test_a_batch_of_different_prompts_answers_as_each_alone(painter: DiffusionPainter, x: Tensor) -> None:
    prompts = ["cat", "a AND b :0.5", "[a:b BREAK c:0.5]", "a::2 [b|c] d::3"]
    rows = [condition(painter, prompt) for prompt in prompts]
    together, sheet = Conditioning.cat(*rows), x.expand(4, -1, -1, -1)
    assert len(together) == 4
    for step in range(4):
        both = guide(attention, together.at(step), Guidance(3.0))(sheet, LEVEL)
        for k, row in enumerate(rows):
            single = guide(attention, row.at(step), Guidance(3.0))(x, LEVEL)
            torch.testing.assert_close(both[k : k + 1], single)
    wide = rows[3].expand(3)
    assert [len(part) for _, stage in wide.stages for part in (*stage.parts, stage.negative)] == [3] * 12


def test_composed_without_words_is_the_same_when_weights_sum_to_one() -> None:
    a, b, u = torch.randn(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    weights = [torch.tensor([0.3, 2.0]), torch.tensor([0.7, -1.0])]
    torch.testing.assert_close(compose([a, b], weights), compose([a, b], weights, u), rtol=1e-5, atol=1e-5)
    assert compose([a], [None], u) is a


# schedules


def finished(painter: DiffusionPainter, brief: ResolvedBrief, seeds: Any = (1,)) -> Tensor:
    words = painter.condition(brief)
    *_, last = painter.steps(brief, words, painter.begin(brief, words, Seeds(seeds)))
    return last.state


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "euler_ancestral"])
def test_a_schedule_paints_with_one_then_the_other(painter: DiffusionPainter, sampler: str) -> None:
    """By hand through the coroutine: the first two of four questions with one prompt, then the other."""
    brief = brief_of(painter, "[cat:dog:0.5] (x:2)", sampler=sampler)
    one, other = (
        guide(painter.network, condition(painter, prompt, sampler=sampler), Guidance(brief.guidance))
        for prompt in ("cat (x:2)", "dog (x:2)")
    )
    calls = 0

    @torch.no_grad()
    def denoise(x: Tensor, level: Level) -> Tensor:
        nonlocal calls
        calls += 1
        return painter.prediction.x0(x, (one if calls <= 2 else other)(x, level), level.alpha, level.sigma)

    start = painter.begin(brief, painter.condition(brief), Seeds([1]))
    entry = SAMPLERS[sampler]
    levels = painter.schedule.levels(4, entry.spacing, entry.set_alpha_to_one)
    *_, (expected, _) = run_sampler(entry.sample(start.state, levels, start.seeds), denoise)
    assert torch.equal(finished(painter, brief), expected)


def test_words_are_a_function_of_the_level(painter: DiffusionPainter, x: Tensor) -> None:
    """Also of levels between two steps, and of trials that look ahead."""
    words = condition(painter, "[cat:dog:2]")
    levels = [Level(math.cos(a), math.sin(a), a) for a in (1.5, 1.2, 0.9, 0.6)] + [NO_NOISE]
    token_states = []

    def network(x: Tensor, _t: Tensor, words: Conditioning) -> Tensor:
        token_states.append(words.tokens)
        return x

    calls = guide_calls_scheduled(network, replace(words, negative=None), Guidance(1.0), levels)
    for angle in (1.55, 1.5, 1.0, 0.9, 0.7, 0.1):
        answer_each(calls(x, Level(math.cos(angle), math.sin(angle), angle)))
    answer_each(calls(x, NO_NOISE))
    cat, dog = tokens(painter, "cat"), tokens(painter, "dog")
    assert [torch.equal(each, cat) for each in token_states] == [True] * 3 + [False] * 4
    assert all(torch.equal(each, dog) for each in token_states[3:])


def test_the_same_words_are_encoded_once() -> None:
    calls = []

    def text(words: str) -> Conditioning:
        calls.append(words)
        return Conditioning(torch.zeros(1, 1, 1))

    encode(text, parse("[a|b] AND c"), parse("[|x]"), 10)
    assert sorted(calls) == ["", "a", "b", "c", "x"]


def test_a_schedule_counts_the_steps_that_are_left_for_a_given_picture(painter: DiffusionPainter) -> None:
    images = InputImages(torch.zeros(1, 4, 32, 32))
    brief = brief_of(painter, "[cat:dog:0.5]", steps=8, strength=0.5)
    assert [start for start, _ in painter.condition(brief, images).schedule] == [2]


def test_given_pictures_stand_beside_every_part_at_every_moment(painter: DiffusionPainter) -> None:
    images = InputImages(torch.zeros(1, 4, 32, 32), torch.ones(1, 1, 32, 32))
    concats = []

    def network(x: Tensor, _t: Tensor, words: Conditioning) -> Tensor:
        concats.append(words.concat)
        return x

    looking = replace(painter, network=network, concat=lambda *_: torch.ones(1, 5, 4, 4))
    brief = brief_of(painter, "[a:b:0.5] AND c::2", negative_prompt="[d|e]", strength=1.0)
    words = looking.condition(brief, images)
    for _ in looking.steps(brief, words, looking.begin(brief, words, Seeds([1]))):
        pass
    assert len(concats) == 4
    assert all(concat is not None and len(concat) == 3 for concat in concats)
    for _, stage in words.stages:
        for part in stage.parts:
            assert (part.image, part.region) == (words.image, words.region)
            assert part.image is not None


def test_outside_a_region_the_given_picture_stays_whatever_is_said(painter: DiffusionPainter) -> None:
    region = torch.zeros(1, 1, 32, 32)
    region[..., :16] = 1
    picture = torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    brief = brief_of(painter, "[a:b:0.5] AND c::2", strength=1.0)
    words = painter.condition(brief, InputImages(picture, region))
    *_, last = painter.steps(brief, words, painter.begin(brief, words, Seeds([1])))
    torch.testing.assert_close(last.state[..., 2:], words.image[..., 2:], rtol=0, atol=1e-5)
    assert not torch.allclose(last.state[..., :2], words.image[..., :2], atol=1e-2)


# tastes


def test_no_taste_is_exactly_nothing(painter: DiffusionPainter) -> None:
    words = condition(painter, "a AND b").expand(2)
    assert with_chaos_and_weird(words, brief_of(painter, "a"), [1, 2]) is words
    assert stylize_guidance(3.7, 100) == 3.7
    plain = finished(painter, brief_of(painter, "a cat"))
    assert torch.equal(plain, finished(painter, brief_of(painter, "a cat", chaos=0, weird=0, stylize=100)))
    for field in ({"chaos": 1}, {"weird": 1}, {"stylize": 101}):
        assert not torch.equal(plain, finished(painter, brief_of(painter, "a cat", **field)))


def test_stylize_grows_with_its_number() -> None:
    values = [stylize_guidance(4.0, stylize) for stylize in range(1001)]
    assert values == sorted(values)
    assert len(set(values)) == 1001
    assert (values[0], values[-1]) == pytest.approx((2.4, 6.4))


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2])
def test_turning_keeps_lengths_and_turns_by_the_angle(angle: float) -> None:
    states, towards = torch.randn(
        2, 3, 5, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    states[0, 0] = 0
    moved = turn_towards(states, towards, angle)
    torch.testing.assert_close(moved.norm(dim=-1), states.norm(dim=-1))
    cosines = torch.cosine_similarity(moved, states, dim=-1)
    torch.testing.assert_close(cosines[1:], torch.full_like(cosines[1:], math.cos(angle)))
    assert moved.isfinite().all()


def test_weird_turns_all_pictures_one_way_and_chaos_each_its_own(painter: DiffusionPainter) -> None:
    words = condition(painter, "cat").expand(2)
    odd = with_chaos_and_weird(words, brief_of(painter, "cat", weird=3000), [1, 2]).tokens
    assert torch.equal(odd[0], odd[1])
    wild = with_chaos_and_weird(words, brief_of(painter, "cat", chaos=100), [1, 2])
    assert not torch.allclose(wild.tokens[0], wild.tokens[1])
    for moved in (odd, wild.tokens):
        torch.testing.assert_close(moved.norm(dim=-1), words.tokens.norm(dim=-1), rtol=1e-5, atol=0)
    assert wild.weight.unique().numel() == 2
    assert (wild.weight - 1).abs().max() <= 0.25
    assert torch.equal(wild.negative.tokens, words.negative.tokens)


def test_chaos_draws_nothing_that_the_noise_draws(painter: DiffusionPainter) -> None:
    words = condition(painter, "cat")
    moved = with_chaos_and_weird(words, brief_of(painter, "cat", chaos=100), [7]).tokens
    noise = Seeds([7]).normal(1, words.tokens.shape[-1])
    assert not torch.allclose(moved, turn_towards(words.tokens, noise, math.pi / 4))


def test_more_chaos_more_difference(painter: DiffusionPainter) -> None:
    def spread(chaos: int) -> float:
        brief = brief_of(painter, "cat", chaos=chaos)
        words = with_chaos_and_weird(painter.condition(brief).expand(6), brief, range(6)).tokens
        return (words - words[0]).square().mean().item()

    spreads = [spread(chaos) for chaos in (0, 10, 50, 100)]
    assert spreads[0] == 0
    assert spreads == sorted(spreads)
    assert len(set(spreads)) == 4


# the app


WILD = "{cat|dog} (in:1.2) [snow:rain:0.5] AND {a|b|c}"


@pytest.mark.parametrize("fields", [{}, {"chaos": 40, "weird": 500, "stylize": 300}])
def test_a_cell_of_a_grid_is_the_picture_alone_byte_for_byte(
    painter: DiffusionPainter, tmp_path: Path, fields: dict[Any, Any]
) -> None:
    options = {"steps": 2, "native": True, "negative_prompt": "{x|y}", **fields}
    sheet = paint(WILD, painter=painter, seed=5, count=4, **options)
    assert len({picture.info.chosen for picture in sheet}) > 1
    for k, picture in enumerate(sheet):
        (again,) = paint(WILD, painter=painter, seed=5 + k, **options)
        assert again.image.tobytes() == picture.image.tobytes()
        assert again.brief == picture.brief
        assert picture.brief.prompt == WILD, "it paints the same again"
        assert again.info.chosen == picture.info.chosen
    opened = type(picture).open(picture.save(tmp_path / "a.png"))
    assert opened.brief == picture.brief
    assert (opened.info.chosen, opened.info.mapping) == (picture.info.chosen, 1)
    assert picture.info.chosen in opened.image.info.get("parameters", picture.info.chosen)


class Listening(Toy):
    """Remembers which briefs it was asked to condition and to paint."""

    def __init__(self) -> None:
        super().__init__()
        self.conditioned: list[Any] = []
        self.painted: list[Any] = []

    def condition(self, brief: ResolvedBrief, *images: InputImages) -> Conditioning:
        self.conditioned.append(brief)
        return super().condition(brief, *images)

    def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        self.painted += [(brief.prompt, seed) for seed in seeds.seeds]
        return super().begin(brief, conditioning, seeds)


def test_equal_words_are_conditioned_once_and_pictures_stay_in_order() -> None:
    toy = Listening()
    pictures = paint("a {red|blue} fox", painter=toy, seed=1, count=8)
    assert sorted(brief.prompt for brief in toy.conditioned) == ["a blue fox", "a red fox"]
    assert [seed for _, seed in toy.painted] == list(range(1, 9))
    assert [picture.info.chosen for picture in pictures] == [prompt for prompt, _ in toy.painted]
    assert paint("a red fox", painter=toy, seed=1)[0].info.chosen == ""


def test_a_batch_holds_pictures_of_the_same_words_only() -> None:
    class Batching(Listening):
        def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
            self.painted.append(seeds.seeds)
            return Toy.begin(self, brief, conditioning, seeds)

    toy = Batching()
    paint("a fox", painter=toy, seed=1, count=5, batch=4)
    assert toy.painted == [(1, 2, 3, 4), (5,)]
    toy.painted.clear()
    paint("{a|b} fox", painter=toy, seed=1, count=8, batch=8)
    assert [seed for seeds in toy.painted for seed in seeds] == list(range(1, 9))
    assert len(toy.painted) > 1


def test_references_join_the_adapters() -> None:
    expanded = expand_prompt(
        Brief(prompt="a <sks:0.5> fox <lora:ink:0.8>", seed=1, adapters={"sks": 1.0, "x": 2.0})
    )
    assert expanded.prompt == "a <sks> fox "
    assert expanded.adapters == {"sks": 0.5, "x": 2.0, "ink": 0.8}
    toy = Listening()
    with pytest.raises(BadBrief, match="unknown adapter 'sks'"):
        paint("a <sks:0.5> fox <lora:ink:0.8>", painter=toy, seed=1)
    with pytest.raises(BadBrief, match="adapters"):
        paint("".join(f"<lora:{k}:1>" for k in range(17)) + "a", painter=toy)


def test_shares_that_sum_to_nothing_are_refused_before_painting() -> None:
    toy = Listening()
    with pytest.raises(BadBrief, match="make the sum more than 0"):
        paint("{cat|dog::-2 fox}", painter=toy, seed=1, count=8)
    assert toy.painted == []
