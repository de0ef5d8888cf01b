"""Midjourney's parameters: what they are read as, what they mean, and how they are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.conditioning.parameters import Parameters, brief_fields, literal, render, split
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.half_width import half_width
from tests.toy import CARD

READ = [
    ("a fox", "a fox", {}),
    ("a fox --ar 3:2", "a fox", {"ar": "3:2"}),
    ("a fox --no people, text --seed 7", "a fox", {"no": "people, text", "seed": 7}),
    ("a fox --s 250 --c 5 --w 9", "a fox", {"stylize": 250, "chaos": 5, "weird": 9}),
    ("a fox --q .5 --r 3", "a fox", {"quality": 0.5, "repeat": 3}),
    ("a fox --stylize 0 --chaos 0 --weird 0", "a fox", {"stylize": 0, "chaos": 0, "weird": 0}),
    ("a fox --quality 2 --repeat 1", "a fox", {"quality": 2.0, "repeat": 1}),
    ("a fox --tile --style paper cut --steps 9", "a fox", {"tile": True, "style": "paper cut", "steps": 9}),
    ("a fox --iw 1.5 --sref a.png b.png", "a fox", {"iw": 1.5, "sref": "a.png b.png"}),
    ("一只狐狸 —ar 3:2 –seed 7", "一只狐狸", {"ar": "3:2", "seed": 7}),
    ("一只狐狸 ——AR 3：2", "一只狐狸", {"ar": "3:2"}),
    ("一只狐狸，雪 －－ar 3：2 －－no 人，字", "一只狐狸，雪", {"ar": "3:2", "no": "人，字"}),
    ("一只狐狸　－－ｓ　２５０", "一只狐狸", {"stylize": 250}),
    ("一只狐狸--ar 3:2", "一只狐狸", {"ar": "3:2"}),
    ("一只狐狸－－seed ７", "一只狐狸", {"seed": 7}),
    ("他说——no，走了", "他说——no，走了", {}),
    (r"一只狐狸\--ar 3:2", "一只狐狸--ar 3:2", {}),
    ("一只狐狸 --style “剪纸” --sref 'a b.png'", "一只狐狸", {"style": "剪纸", "sref": "a b.png"}),
    ("a fox --no the 'big' one's", "a fox", {"no": "the 'big' one's"}),
    ("a fox—running – fast -- very", "a fox—running – fast -- very", {}),
    ("a fox--ar 3:2", "a fox--ar 3:2", {}),
    (r"a fox \--ar 3:2", "a fox --ar 3:2", {}),
    (r"a fox \\--ar 3:2", r"a fox \--ar 3:2", {}),
    ("--ar 3:2", "", {"ar": "3:2"}),
    ("", "", {}),
]


@pytest.mark.parametrize(("text", "words", "expected"), READ)
def test_parameters_are_read_and_written(text: str, words: str, expected: dict[Any, Any]) -> None:
    assert split(text) == (words, Parameters(**expected))
    assert split(render(words, Parameters(**expected))) == (words, Parameters(**expected))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a --ar16:9", "--ar16:9 is run together: put a space after --ar"),
        ("a --seed=7", "put a space after --seed"),
        ("a --ar 3:2 fox", "'fox' stands behind --ar"),
        ("a --tile fox", "'fox' stands behind --tile"),
        ("a --stlye 3d", "unknown parameter '--stlye': did you mean '--style'"),
        ("a --cref x.png", "unknown parameter '--cref'"),
        ("a --seed", "--seed '' is not understood: it needs a whole number"),
        ("a --seed 1.5", "--seed '1.5'"),
        ("a --seed " + "9" * 5000, "needs a whole number"),
        ("a --no", "needs a value"),
        ("a --ar", "needs a value"),
        ("a --q 3", "one of 0.25, 0.5, 1, 2, 4"),
        ("a --iw 9", "a number from 0 to 3"),
        ("a —no—sense x", "put a space after --no"),
    ],
)
def test_parameters_are_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(BadBrief) as refusal:
        split(text)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_of_two_the_last_counts_and_it_is_told() -> None:
    words, found = split("a fox --seed 1 --tile --seed 2")
    assert (words, found.seed, found.tile) == ("a fox", 2, True)
    assert found.notes == ("--seed is given more than once: the last one counts",)


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("--ar 4:1", {}, {"width": 64, "height": 16}),
        ("--ar 4:1", {"native": True}, {"native": True, "width": 32, "height": 8}),
        ("--no a, b", {}, {"negative_prompt": "a, b"}),
        ("--no a", {"negative_prompt": "b"}, {"negative_prompt": "b"}),
        ("--q 2", {}, {"steps": 6}),
        ("--q .25", {}, {"steps": 1}),
        ("--q 2", {"steps": 5}, {"steps": 10}),
        ("--q 4 --steps 2", {}, {"steps": 8}),
        ("--repeat 3", {}, {"count": 3}),
        ("--repeat 3", {"count": 2}, {"count": 6}),
        ("--s 250 --c 5 --w 9", {}, {"stylize": 250, "chaos": 5, "weird": 9}),
        ("--seed 7 --style 3d", {}, {"seed": 7, "style": "3d"}),
        ("--seed 7", {"seed": 0}, {"seed": 0}),
        ("--tile", {}, {"tile": True}),
        ("--iw 2 --sref a", {}, {}),
    ],
)
def test_parameters_become_fields(text: Any, given: Any, expected: Any) -> None:
    fields = brief_fields(split(text)[1], CARD, given)
    assert fields == expected
    assert Brief.of("a fox", **fields).resolve(CARD)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("--ar 9:1", "between 1:4 and 4:1"),
        ("--ar wide", "not W:H"),
        ("--seed -1", "seed -1"),
        ("--chaos 101", "chaos 101 is too large"),
        ("--weird 9999", "weird 9999"),
        ("--stylize -5", "stylize -5"),
        ("--repeat 0", "count 0"),
        ("--repeat 99", "count 99"),
        ("--style nonesuch", "unknown style"),
    ],
)
def test_values_out_of_range_are_refused_as_fields(text: str, says: str) -> None:
    with pytest.raises(BadBrief, match=says):
        Brief.of("a fox", **brief_fields(split(text)[1], CARD, {})).resolve(CARD)


def test_a_ratio_and_a_side_are_too_many() -> None:
    with pytest.raises(BadBrief, match="give one of them"):
        brief_fields(split("--ar 3:2")[1], CARD, {"width": 32})


MARKS = [
    "－",
    "－－",
    "：",
    "　",
    "“",
    '"',
    "--",
    "—",
    "–",
    "\\",
    " ",
    "a",
    "ar",
    "ar 3:2",
    " --no x",
    " --s 5",
    "seed 7",
    "猫",
]


@given(st.lists(st.sampled_from(MARKS) | st.text(max_size=3), max_size=12).map("".join))
def test_any_words_survive_as_words_and_what_is_read_is_read_again(text: Any) -> None:
    words = " ".join(text.split())
    assert split(literal(words)) == (words, Parameters())
    try:
        said, found = split(text)
    except BadBrief:
        return
    found = replace(found, notes=())
    assert split(render(said, found)) == (said, found)


@given(st.lists(st.sampled_from(MARKS) | st.text(max_size=3), max_size=12).map("".join))
def test_a_chinese_keyboard_asks_what_any_other_asks(text: Any) -> None:
    half = half_width(text)
    try:
        words, found = split(half)
    except BadBrief:
        with pytest.raises(BadBrief):
            split(text)
        return
    typed_words, typed = split(text)
    halved = {
        name: half_width(value) if isinstance(value, str) else value for name, value in vars(typed).items()
    }
    assert (half_width(typed_words), Parameters(**halved)) == (words, found)
