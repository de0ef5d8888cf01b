"""docs/prompt-language.md: every prompt on the page is run, and says what the page claims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from danqing.apps.paint import paint
from danqing.conditioning.grammar import parse, render
from danqing.conditioning.parameters import _MIDJOURNEY_ONLY, _SHORT, _TABLE, brief_fields, split
from danqing.conditioning.prompt import expand_prompt, styled_prompt
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.families.stable_diffusion.painter import random_painter
from danqing.tuning.adapter import Adapter
from danqing.tuning.adapter_files import write_adapter
from danqing.tuning.lora import ATTENTION, new_factors
from tests.toy import CARD

PAGE = (Path(__file__).parent.parent / "docs" / "prompt-language.md").read_text("utf-8")


def lines(kind: str) -> list[str]:
    boxes = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [line for box in boxes for line in box.splitlines()]


def brief_of(line: str) -> Brief:
    text, parameters = split(line)
    brief = Brief.of(text, **{"seed": 7, **brief_fields(parameters, CARD, {})}).resolve(CARD)
    return expand_prompt(brief)


@pytest.mark.parametrize("line", lines("prompt"))
def test_every_prompt_is_read(line: str) -> None:
    sides = line.split("  =  ")
    prompts = [styled_prompt(brief_of(side), CARD) for side in sides]
    for prompt in prompts:
        assert parse(render(prompt)) == prompt
    assert len({(prompt.weights, *(part.chunks for part in prompt.parts)) for prompt in prompts}) == 1


@pytest.mark.parametrize("line", lines("refused"))
def test_what_is_refused_is_refused(line: str) -> None:
    with pytest.raises(BadBrief):
        brief_of(line)


def test_the_table_names_every_parameter() -> None:
    named = set(re.findall(r"`--(\w+)", "".join(re.findall(r"^\| `--.*?\|", PAGE, re.MULTILINE))))
    assert named == {*_TABLE, *_SHORT} - _MIDJOURNEY_ONLY.keys()


def test_the_whole_language_paints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture of all prompts at once, with the tiny painter and adapters of those names."""
    monkeypatch.chdir(tmp_path)
    line = "; ".join(line for line in lines("prompt") if "--" not in line and "  =  " not in line)
    brief, painter = Brief.of(line, seed=1, steps=3, native=True), random_painter()
    for name in expand_prompt(brief).adapters:
        factors = new_factors(painter.modules, {"unet": ATTENTION}, rank=1, seed=0)
        write_adapter(
            Adapter(name, factors=factors, trigger="wth cat"), Path("adapters", f"{name}.safetensors")
        )
    (picture,) = paint(brief, painter=painter)
    assert picture.image.size == (32, 32)
    assert "{" not in picture.info.chosen
