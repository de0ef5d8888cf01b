"""The prompt language: a table of what it says, and properties that hold for any text."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.conditioning.grammar import Part, Prompt, Span, is_weighted, parse, render, text_of
from danqing.conditioning.prompt_schedule import ALWAYS, StepRange
from danqing.conditioning.references import take
from danqing.conditioning.wildcards import choose
from danqing.core.errors import BadBrief
from danqing.core.half_width import half_width


def spans(text: str) -> list[tuple[str, float]]:
    """Words and weights of a prompt of one part and one chunk."""
    ((chunk,),) = [part.chunks for part in parse(text).parts]
    assert all(span.when == ALWAYS for span in chunk)
    return [(span.text, span.weight) for span in chunk]


WEIGHTS = [
    ("a cat", [("a cat", 1)]),
    ("a (cat)", [("a ", 1), ("cat", 1.1)]),
    ("a ((cat)) sat", [("a ", 1), ("cat", 1.21), (" sat", 1)]),
    ("a [cat]", [("a ", 1), ("cat", 0.909091)]),
    ("a ([cat])", [("a cat", 1)]),
    ("(cat:1.5)", [("cat", 1.5)]),
    ("(cat: 1.5 )", [("cat", 1.5)]),
    ("(cat:-1)", [("cat", -1)]),
    ("(cat:.5)", [("cat", 0.5)]),
    ("(cat:1)", [("cat", 1)]),
    ("(a (cat:1.5):2)", [("a ", 2), ("cat", 3)]),
    ("(a (b:0)c:2)", [("a ", 2), ("b", 0), ("c", 2)]),
    ("(red)(cat)", [("redcat", 1.1)]),
    ("(cat:big)", [("cat:big", 1.1)]),
    ("(cat:1.5x)", [("cat:1.5x", 1.1)]),
    ("(3:2:1.5)", [("3:2", 1.5)]),
    ("(cat:1e9)", [("cat:1e9", 1.1)]),
    ("(cat:99999)", [("cat", 1000)]),
    ("(cat:" + "9" * 5000 + ")", [("cat", 1000)]),
    ("3:2", [("3:2", 1)]),
    ("ratio:1.5)", [("ratio:1.5)", 1)]),
    ("(cat", [("(cat", 1)]),
    ("cat)", [("cat)", 1)]),
    (":( and ]:", [(":( and ]:", 1)]),
    ("(a [b) c]", [("a [b", 1.1), (" c]", 1)]),
    ("((cat)", [("(", 1), ("cat", 1.1)]),
    (r"\(cat\)", [("(cat)", 1)]),
    (r"(cat\:1.5)", [("cat:1.5", 1.1)]),
    (r"\\(cat)", [("\\", 1), ("cat", 1.1)]),
    (r"C:\new", [(r"C:\new", 1)]),
    (r"rock \AND roll \BREAK", [("rock AND roll BREAK", 1)]),
    ("(rock AND roll)", [("rock AND roll", 1.1)]),
    ("SAND BREAKS HANDY", [("SAND BREAKS HANDY", 1)]),
    ("(a::b)", [("a::b", 1.1)]),
    (r"std\::vector", [("std::vector", 1)]),
    ("[a|b", [("[a|b", 1)]),
    ("a|b", [("a|b", 1)]),
    ("[a:b:c:0.5]", [("a:b:c:0.5", 0.909091)]),
    ("（红：1.2）", [("红", 1.2)]),
    ("（红:１．２)，［蓝］", [("红", 1.2), ("，", 1), ("蓝", 0.909091)]),
    (r"\（红：1.2\）", [("（红：1.2）", 1)]),
    ("他说：“一只猫，好！”", [("他说：“一只猫，好！”", 1)]),
    ("（没有关上：1.2", [("（没有关上：1.2", 1)]),
    ("  a cat \n", [("a cat", 1)]),
]


@pytest.mark.parametrize(("text", "expected"), WEIGHTS, ids=lambda value: str(value)[:30])
def test_weights(text: str, expected: Any) -> None:
    assert spans(text) == expected


SCHEDULES = [  # text, and what is said at each of four steps
    ("[a:b:0.5]", "aabb"),
    ("[a:b:1]", "abbb"),
    ("[a:b:3]", "aaab"),
    ("[a:b:9]", "aaaa"),
    ("[a:b:0]", "bbbb"),
    ("[a:b:1.0]", "aaaa"),
    ("[a:b:-1]", "bbbb"),
    ("[a:0.5]", "  aa"),
    ("[a::0.5]", "aa  "),
    ("[a: 0.5 ]", "  aa"),
    ("[::0.5]", "    "),
    ("[a|b]", "abab"),
    ("[a|b|]", "ab a"),
    ("[[a|b|b]|c]", "acbc"),
    ("[a|[b|c]]", "acac"),
    ("[[a:b:1]:c:0.75]", "abbc"),
    ("[a:[b:c:3]:0.25]", "abbc"),
    ("[[a:0.25]::3]", " aa "),
    ("(a:1.5)", "aaaa"),
    ("([a:b:0.5]:1.5)", "aabb"),
    ("[(a:2):(b):2]", "aabb"),
    (r"[a\:b:0.5]", "  **"),
]


@pytest.mark.parametrize(("text", "expected"), SCHEDULES)
def test_schedules(text: str, expected: str) -> None:
    texts = [text_of(parse(text).at(step, 4).parts[0].chunks[0]) for step in range(4)]
    assert "".join({"": " ", "a:b": "*"}.get(words, words) for words in texts) == expected
    assert not parse(text).at(0, 4).is_scheduled


def test_weights_inside_a_schedule_multiply() -> None:
    assert parse("([a:(b:2):0.5]:1.5)").at(1, 2).parts[0].chunks == ((Span("b", 3.0),),)


@pytest.mark.parametrize(("share", "steps", "of"), [("0.29", 29, 100), ("0.7", 7, 10), ("0.333", 3, 10)])
def test_a_share_is_rounded_down_in_steps_but_not_by_floats(share: str, steps: int, of: int) -> None:
    texts = [text_of(parse(f"[a:b:{share}]").at(step, of).parts[0].chunks[0]) for step in range(of)]
    assert texts.count("a") == steps


def parts(text: str) -> list[tuple[str, float]]:
    return [("|".join(map(text_of, part.chunks)), part.weight) for part in parse(text).parts]


PARTS = [
    ("a::2 b::-1", True, [("a", 2), ("b", -1)]),
    ("hot:: dog", True, [("hot", 1), ("dog", 1)]),
    ("a::.5 b", True, [("a", 0.5), ("b", 1)]),
    ("a::2, b::3", True, [("a", 2), (", b", 3)]),
    ("a::2b", True, [("a", 1), ("2b", 1)]),
    ("a::1.5.2 b", True, [("a", 1), ("1.5.2 b", 1)]),
    ("a::", True, [("a", 1)]),
    ("a::::b", True, [("a", 1), ("b", 1)]),
    ("猫::2 狗", True, [("猫", 2), ("狗", 1)]),
    ("a::2(b)", True, [("a", 2), ("b", 1)]),
    ("::", False, [("", 1)]),
    ("a AND b", False, [("a", 1), ("b", 1)]),
    ("a AND b:0.5", False, [("a", 1), ("b", 0.5)]),
    ("a :2 AND b : -1 ", False, [("a", 2), ("b", -1)]),
    ("AND b:0.5", False, [("b", 0.5)]),
    ("a AND", False, [("a", 1)]),
    ("a:0.5", False, [("a:0.5", 1)]),
    ("(a AND b:2) AND c", False, [("a AND b", 1), ("c", 1)]),
    ("a::2 b AND c:3", True, [("a", 2), ("b", 1), ("c", 3)]),
    ("a BREAK b", False, [("a|b", 1)]),
    ("a BREAK BREAK b BREAK", False, [("a|b", 1)]),
    ("BREAK", False, [("", 1)]),
    ("(a BREAK b:2) c", False, [("a|b c", 1)]),
    ("a BREAK b::2 c", True, [("a|b", 2), ("c", 1)]),
    ("[a::0.5] b::2 c", True, [("a b", 2), ("c", 1)]),
]


@pytest.mark.parametrize(("text", "blend", "expected"), PARTS)
def test_parts_and_chunks(text: str, blend: bool, expected: Any) -> None:
    assert parse(text).blend == blend
    assert parts(text) == expected


def test_weights_of_a_blend_are_shares_and_of_a_sum_are_not() -> None:
    assert parse("a::3 b::-1").weights == (1.5, -0.5)
    assert parse("a::3").weights == (1.0,)
    assert parse("a :3 AND b :-1").weights == (3.0, -1.0)
    for text in ("a::1 b::-1", "a::-1", "a::0"):
        with pytest.raises(BadBrief, match="make the sum more than 0"):
            parse(text).weights  # noqa: B018


def test_in_a_negative_prompt_parts_are_ordinary() -> None:
    assert parse("a AND b::2 (c:2)", whole=True) == Prompt(
        (Part(((Span("a AND b::2 "), Span("c", 2.0)),)),),
    )


PIECES = [
    "(",
    ")",
    "[",
    "]",
    "[",
    "]",
    ":",
    "::",
    "|",
    "{",
    "}",
    "<",
    ">",
    "\\",
    "--",
    "AND",
    "BREAK",
    " AND ",
]
PIECES += [
    " BREAK ",
    " ",
    "  ",
    "a",
    "b",
    "猫",
    "fox ",
    "0",
    "1",
    "7",
    "0.5",
    "-1",
    "1.1",
    ".3",
    "1e9",
    ":0.5]",
    ":2)",
]


def holds(text: str) -> None:
    prompt = parse(text)
    text_again = render(prompt)
    assert parse(text_again) == prompt, (text, text_again)
    assert render(parse(text_again)) == text_again, (text, text_again)
    assert parse(render(parse(text, whole=True)), whole=True) == parse(text, whole=True), text


def test_what_is_rendered_is_read_back_random_pieces() -> None:
    """9 000 texts of the marks that matter."""
    chance = random.Random(0)
    for _ in range(9000):
        holds("".join(chance.choices(PIECES, k=chance.randrange(1, 24))))


@settings(max_examples=700)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=30).map("".join))
def test_what_is_rendered_is_read_back(text: Any) -> None:
    holds(text)
    choose(text, 1)
    take(text)


@settings(max_examples=300)
@given(st.text(st.characters(), max_size=60))
def test_any_text_says_something_and_plain_text_itself(text: Any) -> None:
    holds(text)
    plain = "".join(" " if c in "()[]:|\\" else c for c in text).strip()
    if "AND" not in plain and "BREAK" not in plain:
        assert parse(plain) == Prompt((Part(((Span(plain),) if plain else (),)),))


def halved(prompt: Prompt) -> Prompt:
    """The prompt with its words in half-width characters."""
    parts = [
        replace(
            part, chunks=tuple(tuple(replace(s, text=half_width(s.text)) for s in c) for c in part.chunks)
        )
        for part in prompt.parts
    ]
    return replace(prompt, parts=tuple(parts))


def widened(text: str, which: int) -> str:
    """`text` with its characters in their full-width forms where the bits of `which` say so."""
    wide = {" ": "\u3000", '"': "“", "'": "’"}
    return "".join(
        wide.get(c, chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c) if which >> k & 1 else c
        for k, c in enumerate(text)
    )


LORA = ["<lora:ink:0.7>", "<sks:2>", '"']


@settings(max_examples=700)
@given(
    st.lists(st.sampled_from(PIECES + LORA) | st.text(max_size=4), max_size=30).map("".join),
    st.integers(0, 2**80),
)
def test_a_chinese_keyboard_says_what_any_other_says(text: Any, which: Any) -> None:
    """The whole grammar, with any of its characters full-width; words stay as they were typed."""
    wide, half = widened(text, which), half_width(text)
    assert half_width(wide) == half
    holds(wide)
    assert halved(parse(wide)) == parse(half)
    assert halved(parse(wide, whole=True)) == parse(half, whole=True)
    assert half_width(choose(wide, 1)) == choose(half, 1)
    assert (half_width(take(wide)[0]), take(wide)[1]) == take(half)
    spans = [s for part in parse(wide).parts for chunk in part.chunks for s in chunk]
    typed = iter(wide)
    assert all(c in typed for s in spans for c in s.text), "each word's characters, in order"


DEEP = 10_000
HOSTILE = {
    "open": "(" * DEEP,
    "balanced": "(" * DEEP + "a" + ")" * DEEP,
    "crossed": "([)]" * (DEEP // 4),
    "mixed": "([" * (DEEP // 2) + ")" * DEEP,
    "schedules": "[" * 2000 + "a" + ":b:0.5]" * 2000,
    "alternatives": "[a|b" * 1000,
    "references": "<lora:" * 500,
    "chunks": "BREAK " * 1000,
    "parts": "a::1 " * 1000,
    "colons": ":" * DEEP,
    "digits": "(a:" + "1" * DEEP + "x)",
    "braces": "{" * DEEP,
    "wildcards": "{a|" * 2000 + "}" * 2000,
    "surrogates": "\ud800(\udfff:2)" * 500,
    "slashes": "\\" * DEEP,
    "spaces": "( " * 3000 + ": 1.5 )" * 3000,
    "lcm": "".join("[" + "|".join("a" * k) for k in (5, 7, 9, 11, 13, 17)) + "]" * 6,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_read_in_no_time(text: str) -> None:
    """Measured: up to 0.1 s on a busy core; in the square of the length it would be many seconds."""
    seconds = []
    for _ in range(3):  # a pause of the garbage collector is not ours
        start = time.process_time()
        prompt = parse(take(choose(text, 3))[0])
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5
    assert parse(render(prompt)) == prompt


def test_nested_weights_stay_finite() -> None:
    (deep,) = parse("(" * DEEP + "a" + ")" * DEEP).parts[0].chunks[0]
    assert deep == Span("a", 1000.0)
    assert spans("(" * 9 + "(a:0)" + ":99999)" * 9) == [("a", 0)]


def test_a_when_is_never_or_always_what_both_say() -> None:
    one, other = StepRange(turn=1, turns=4), StepRange(turn=3, turns=6)
    for step in range(24):
        assert one.both(other).holds(step, 24) == (one.holds(step, 24) and other.holds(step, 24))
    assert StepRange(turn=0, turns=2).both(StepRange(turn=1, turns=4)).never
    far = StepRange(turn=5, turns=999).both(StepRange(turn=6, turns=998))
    assert [step for step in range(1000) if far.holds(step, 1000)] == []


WILDCARDS = [
    ("{red|blue} fox", {"red fox", "blue fox"}),
    ("{red|{dark|light} blue}", {"red", "dark blue", "light blue"}),
    ("{big |}fox", {"big fox", "fox"}),
    ("{fox}", {"{fox}"}),
    ("{a|b", {"{a|b"}),
    ("a|b}", {"a|b}"}),
    ("{{a|b}", {"{a", "{b"}),
    (r"\{a|b\}", {r"\{a|b\}"}),
    (r"{a\|b|c}", {r"a\|b", "c"}),
    ("{(a:2)|[b|c]}", {"(a:2)", "[b", "c]"}),
    ("｛红|白｝狐，狸", {"红狐，狸", "白狐，狸"}),
    ("{红｜白} {蓝｝", {"红 {蓝｝", "白 {蓝｝"}),
    ("｛a｜{b|c", {"｛a｜{b|c"}),
]


@pytest.mark.parametrize(("text", "expected"), WILDCARDS)
def test_wildcards_choose_by_seed(text: str, expected: set[str]) -> None:
    assert {choose(text, seed) for seed in range(60)} == expected
    assert [choose(text, seed) for seed in range(9)] == [choose(text, seed) for seed in range(9)]


def test_wildcards_are_fair() -> None:
    """Of 3000 throws each of three has 1000, give or take four standard deviations of 26."""
    thrown = [choose("{a|b|c}", seed) for seed in range(3000)]
    assert all(abs(thrown.count(choice) - 1000) < 104 for choice in "abc")


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("a <sks> fox", "a <sks> fox", {"sks": 1.0}),
        ("a <sks:0.8> fox", "a <sks> fox", {"sks": 0.8}),
        ("a fox <lora:ink:0.8>", "a fox ", {"ink": 0.8}),
        ("<lora:my ink v2.1:-.5>a", "a", {"my ink v2.1": -0.5}),
        ("<lora:ink>", "", {"ink": 1.0}),
        ("<ink:1> <ink:2>", "<ink> <ink>", {"ink": 2.0}),
        ("<水墨:0.5>", "<水墨>", {"水墨": 0.5}),
        ("＜水墨：０.5＞，猫", "<水墨>，猫", {"水墨": 0.5}),
        ("《水墨》，猫", "《水墨》，猫", {}),
        ("2 < 3 and 5 > 4", "2 < 3 and 5 > 4", {}),
        ("I <3 you", "I <3 you", {}),
        ("<hypernet:x:1>", "<hypernet:x:1>", {}),
        (r"\<sks>", r"\<sks>", {}),
        ("<a:b>", "<a:b>", {}),
    ],
)
def test_references_are_taken_out(text: str, words: str, found: dict[Any, Any]) -> None:
    assert take(text) == (words, found)


def test_a_learned_word_stays_a_word() -> None:
    assert not is_weighted(parse("a <sks> fox").parts[0].chunks[0])
    assert text_of(parse("a <sks> fox").parts[0].chunks[0]) == "a <sks> fox"
