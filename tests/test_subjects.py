"""What a prompt is about, and whether it is learned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.apps import Session
from danqing.apps._registry import find_app
from danqing.apps.paint import paint
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.data.subjects import find_subject
from danqing.data.vocabulary import vocabulary
from danqing.data.wording_grammar import grammar


@pytest.mark.parametrize("style", [None, "3d", "paper-cut", "ink-wash"])
def test_plain_captions_are_never_warned_about(style: str | None) -> None:
    ending = f", {style} style" if style else ""
    for name, chinese in vocabulary().items():
        assert find_subject(f"a {name}{ending}").name == name
        assert find_subject(f"{chinese}，剪纸风格").name == name


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a cat on a wooden table next to a castle", "cat"),
        ("please draw me a picture of two puppies", "dog"),
        ("masterpiece, best quality, rocket, 8k", "rocket"),
        ("once upon a time there lived a very old turtle by the sea", "turtle"),
        ("a robot holding a red heart", None),
        ("castle, house in the background", None),
        ("帮我画一只可爱的小猫，在城堡前", "cat"),
        ("城堡上空有一个月亮", None),
        ("a strawbery", "strawberry"),
        ("once there was a brave dog who lived in a lighthouse", "dog"),
        ("in a hole under the big oak lived a rabbit", "rabbit"),
        ("every night the boy could not sleep, until one sheep came over the fence of dreams", "sheep"),
        ("a doctor holding a red heart", None),
        ("an ice cube", None),
        ("a fire extinguisher", None),
        ("胖乎乎的小猪佩着蝴蝶结", "pig"),
        ("那只剪刀的图", "scissors"),
        ("桌子上有一只猫", "cat"),
        ("想吃汉堡", "hamburger"),
        ("一杯鸡尾酒", None),
        ("面包车", None),
        ("科学家", None),
    ],
)
def test_subjects_by_hand(prompt: str, name: str | None) -> None:
    assert find_subject(prompt).name == name


def test_nearest_things_are_of_the_language() -> None:
    assert find_subject("a cathedral").nearest == ("house", "tent", "train")
    assert find_subject("城堡，3D风格").nearest == ("房子", "帐篷", "火车")
    assert find_subject("a cat").nearest == ()
    assert set(find_subject("a zyzzyva").nearest) <= set(vocabulary())


@pytest.mark.parametrize("prompt", ["", "3d style", "，。", "(((", "the"])
def test_a_prompt_without_a_thing_is_like_none(prompt: str) -> None:
    assert find_subject(prompt).name is None


@given(st.text(max_size=60))
def test_any_text_is_answered(prompt: str) -> None:
    find_subject(prompt)


def test_it_is_no_tag_that_is_learned() -> None:
    assert "masterpiece" in grammar()["tag"]
    assert find_subject("masterpiece").name is None


def test_it_needs_no_torch() -> None:
    asked = "import sys; from danqing.data.subjects import find_subject; find_subject('a cat'); "
    checked = subprocess.run([sys.executable, "-c", f"{asked}sys.exit('torch' in sys.modules)"], check=False)
    assert checked.returncode == 0


def test_a_prompt_about_something_else_is_noted_and_strict_stops() -> None:
    """In the prompt's language; the shipped painter alone has a list of its things."""

    def notes(prompt: str, model: str = "stickers", **fields: object) -> tuple[str, ...]:
        values = {"prompt": prompt, "model": model, "seed": 1, **fields}
        inputs: Any = find_app("paint").parse(values, Session())
        return inputs.notes

    assert notes("a cathedral") == ("this model has not learned 'cathedral': nearest are house, tent, train",)
    assert notes("大教堂，3D风格") == ("这个模型没有学过“大教堂”，最接近的是：房子、帐篷、火车",)
    assert notes("a cat by a cathedral") == ()
    assert notes("a cathedral", model="dalle1") == ()
    with pytest.raises(BadBrief, match="not learned 'cathedral': nearest are house, tent, train"):
        notes("a cathedral", strict=True)


def test_the_picture_keeps_what_was_not_learned(tmp_path: Path) -> None:
    painted = [paint(prompt, seed=1, fast=True, native=True) for prompt in ("a cathedral", "a cat")]
    assert [picture.info.unlearned for [picture] in painted] == ["cathedral", ""]
    [cathedral] = painted[0]
    assert Picture.open(cathedral.save(tmp_path / "a.png")).info.unlearned == "cathedral"
