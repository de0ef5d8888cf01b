"""Every bad value is refused in one line that names it; a settled brief leaves nothing open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.core.brief import Brief, sides_for_ratio
from danqing.core.card import Can, read_card
from danqing.core.errors import BadBrief
from danqing.core.field_groups import SEED_MAX
from tests.toy import CARD

BAD = [
    ({"prompt": ""}, "prompt is empty"),
    ({"prompt": "  \n"}, "prompt is empty"),
    ({"prompt": "a\x1b[2Jcat"}, "control character"),
    ({"prompt": "a\udcffcat"}, "UTF-8"),
    ({"prompt": "x" * 4001}, "4000 characters or fewer"),
    ({"prompt": 7}, "is not text"),
    ({"steps": 0}, "steps 0 is too small: use 1 or more"),
    ({"steps": -3}, "steps -3"),
    ({"steps": 1001}, "steps 1001 is too large: use 1000 or less"),
    ({"steps": 2.5}, "steps 2.5 is not a whole number"),
    ({"steps": "many"}, "steps 'many' is not a whole number"),
    ({"guidance": float("nan")}, "guidance nan is not a finite number"),
    ({"guidance": float("inf")}, "guidance inf is not a finite number"),
    ({"guidance": -1}, "guidance -1 is too small"),
    ({"rescale": 1.1}, "rescale 1.1 is too large"),
    ({"seed": -1}, "seed -1 is too small: use 0 or more, or leave it out for a random one"),
    ({"seed": 2**32}, "seed 4294967296 is too large"),
    ({"seed": SEED_MAX, "count": 2}, "choose a smaller seed"),
    ({"count": 0}, "count 0"),
    ({"count": 65}, "use 64 or less"),
    ({"width": 7}, "width 7"),
    ({"height": 10**9}, "height 1000000000"),
    ({"background": "blue"}, "background 'blue' is not one of: transparent, white or #rrggbb"),
    ({"background": "#12345"}, "#rrggbb"),
    ({"model": ""}, "model '' is empty"),
    ({"stepps": 3}, "did you mean 'steps'?"),
]


@pytest.mark.parametrize(
    ("fields", "says"), BAD, ids=lambda value: str(value)[:40].encode("unicode_escape").decode()
)
def test_a_bad_value_is_told_in_one_line(fields: dict[str, object], says: str) -> None:
    with pytest.raises(BadBrief) as caught:
        Brief.of(**{"prompt": "a cat", **fields})
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    assert len(text) < 420  # all fields are named
    assert text.isprintable()


def test_settling_decides_everything_and_twice_is_once() -> None:
    resolved = Brief.of("a cat").resolve(CARD)
    assert (resolved.width, resolved.height, resolved.steps, resolved.sampler) == (32, 32, 3, "dpmpp_2m")
    assert resolved.guidance == 4.0
    assert 0 <= (resolved.seed or 0) <= SEED_MAX
    assert resolved.resolve(CARD) == resolved
    assert Brief.of("a cat", native=True).resolve(CARD).width == 16
    assert Brief.of("a cat", guidance=0).resolve(CARD).guidance == 0


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"width": 40}, "width 40 is not a multiple of 16: use 32 or 48"),
        ({"height": 8}, "height 8 is not a multiple of 16: use 16"),
        ({"height": 2047}, "use 2032 or 2048"),
        ({"style": "3D-ish"}, "did you mean '3d'?"),
    ],
)
def test_what_the_model_cannot_paint_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(BadBrief, match=says.replace("?", r"\?")):
        Brief.of("a cat", **fields).resolve(CARD)


def test_a_model_without_alpha_has_no_other_background() -> None:
    opaque = CARD.model_copy(update={"can": frozenset()})
    with pytest.raises(BadBrief, match="paints on white only"):
        Brief.of("a cat", background="transparent").resolve(opaque)


def test_a_model_that_paints_no_tiles_says_so() -> None:
    flat = CARD.model_copy(update={"can": CARD.can - {Can.TILE}})
    assert Brief.of("a cat", tile=True).resolve(CARD).tile
    with pytest.raises(BadBrief, match="paints no tiles: leave tile out"):
        Brief.of("a cat", tile=True).resolve(flat)


@pytest.mark.parametrize("style", ["paper-cut", "paper cut", "剪纸", "Paper-Cut"])
def test_a_style_has_the_name_of_any_of_its_words(style: str) -> None:
    assert Brief.of("a cat", style=style).resolve(CARD).style == "paper-cut"


@given(st.integers(0, SEED_MAX - 64), st.integers(1, 64))
def test_picture_k_is_the_brief_with_the_next_seed(seed: int, count: int) -> None:
    brief = Brief.of("a cat", seed=seed, count=count).resolve(CARD)
    last = brief.alone(count - 1)
    assert (last.seed, last.count) == (seed + count - 1, 1)
    assert last.resolve(CARD) == last


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_ratio_keeps_the_area_and_the_grid(w: int, h: int) -> None:
    card = CARD.model_copy(update={"width": 128, "height": 128, "size_multiple": 8, "scale": 4})
    if max(w / h, h / w) > 4:
        with pytest.raises(BadBrief, match="too long"):
            sides_for_ratio(f"{w}:{h}", card)
        return
    width, height = sides_for_ratio(f"{w}:{h}", card)
    assert width % 32 == height % 32 == 0
    assert 0.75 < width * height / 512**2 < 1.3
    assert 0.8 < width / height / (w / h) < 1.25
    assert Brief.of("a cat", width=width, height=height).resolve(card)


@pytest.mark.parametrize(
    "ratio",
    ["", "3", "3by2", "0:1", "-3:2", "3:2:1", "a:b", "1.5:1", "99999:1", ":", "٣:²", "1" * 5000 + ":1"],
)
def test_a_bad_ratio_is_refused(ratio: str) -> None:
    with pytest.raises(BadBrief, match="ar "):
        sides_for_ratio(ratio, CARD)


def test_a_chinese_colon_is_a_colon() -> None:
    assert sides_for_ratio("1：1", CARD) == (32, 32)


def test_a_card_of_before_opens(tmp_path: Path) -> None:
    fields = CARD.model_dump(mode="json")
    fields["grid"], fields["led_by"] = fields.pop("size_multiple"), fields.pop("prompt_type")
    (tmp_path / "card.json").write_text(json.dumps(fields))
    assert read_card(tmp_path) == CARD
