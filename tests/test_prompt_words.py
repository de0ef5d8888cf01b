"""How a style joins the prompt."""

from __future__ import annotations

import pytest

from danqing.conditioning.grammar import render
from danqing.conditioning.prompt import styled_prompt
from danqing.core.brief import Brief
from danqing.core.card import Card

CARD = Card(
    name="m",
    family="f",
    summary="",
    paper="",
    year=2022,
    licence="",
    width=32,
    height=32,
    size_multiple=8,
    styles={"3d": "3D/立体", "paper-cut": "paper-cut/剪纸", "pixel": "pixel art"},
)


@pytest.mark.parametrize(
    ("prompt", "style", "expected"),
    [
        ("a cat", None, "a cat"),
        ("  a cat ", None, "a cat"),
        ("a cat", "3d", "a cat, 3D style"),
        ("a cat", "paper-cut", "a cat, paper-cut style"),
        ("a cat, 3d style", "3d", "a cat, 3d style"),
        ("a cat in Paper-Cut style", "paper-cut", "a cat in Paper-Cut style"),
        ("a 3d cat", "3d", "a 3d cat, 3D style"),
        ("一只猫", "3d", "一只猫，立体风格"),
        ("剪纸风格的猫", "paper-cut", "剪纸风格的猫"),
        ("a 猫", "paper-cut", "a 猫，剪纸风格"),
        ("一只猫", "pixel", "一只猫，pixel art风格"),
        ("a cat", "pixel", "a cat, pixel art style"),
        ("(a cat:1.2)", "3d", "(a cat:1.2), 3D style"),
        ("a (cat:1.2) [and:0.5]", "3d", "a (cat:1.2) [and:0.5], 3D style"),
        ("a cat::2 rain::-1", "3d", "a cat, 3D style::2 rain, 3D style::-1"),
        ("a cat AND rain :0.5", "3d", "a cat, 3D style AND rain, 3D style :0.5"),
        ("a cat BREAK rain", "3d", "a cat BREAK rain, 3D style"),
    ],
)
def test_words(prompt: str, style: str | None, expected: str) -> None:
    assert render(styled_prompt(Brief.of(prompt, style=style), CARD)) == expected
