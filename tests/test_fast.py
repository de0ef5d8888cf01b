"""`fast`: an adapter that came with the model, its few steps, and guidance that is in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from danqing.apps._session import Session
from danqing.apps.edit import edit
from danqing.apps.learn import learn
from danqing.apps.paint import paint
from danqing.apps.redraw import redraw
from danqing.apps.stylize import stylize
from danqing.apps.upscale import upscale
from danqing.conditioning.parameters import brief_fields, split
from danqing.core.brief import Brief
from danqing.core.card import Fast
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.stable_diffusion.painter import open_folder, painter_of, random_components, save_folder
from danqing.tuning.adapter import attach
from danqing.tuning.adapter_files import read_adapter, write_adapter
from tests.adapters import bits, random_adapter, same_bits

STEPS = 3


@pytest.fixture
def painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiffusionPainter:
    """One that was saved with a fast adapter, opened again from its folder."""
    monkeypatch.chdir(tmp_path)
    components = random_components()
    write_adapter(random_adapter(painter_of(components), "fast", text=False), tmp_path / "fast.safetensors")
    card = components.card.model_copy(
        update={"fast": Fast(steps=STEPS, adapter="fast"), "redraw_guidance": 8.0}
    )
    save_folder(
        replace(components, card=card, adapters={"fast": tmp_path / "fast.safetensors"}), tmp_path / "model"
    )
    return open_folder(tmp_path / "model")


def picture(painter: DiffusionPainter) -> Image.Image:
    return paint(Brief(prompt="a cat", seed=1, steps=2), painter=painter)[0].image


def same(one: Picture, other: Picture) -> bool:
    return one.image.tobytes() == other.image.tobytes()


def test_fast_is_the_adapter_in_few_steps_without_guidance(painter: DiffusionPainter) -> None:
    before = bits(painter)
    [fast] = paint(Brief(prompt="a cat", seed=1, fast=True), painter=painter)
    assert (fast.brief.steps, fast.brief.guidance, fast.brief.sampler) == (STEPS, 1.0, "lcm")
    with attach(painter, {read_adapter(painter.adapters["fast"]): 1.0}):
        plain = Brief(prompt="a cat", seed=1, steps=STEPS, guidance=1.0, sampler="lcm")
        [by_hand] = paint(plain, painter=painter)
    [slow] = paint(plain, painter=painter)
    assert same(fast, by_hand)
    assert not same(fast, slow)
    assert same_bits(before, bits(painter))
    [again] = paint(fast.brief, painter=painter)
    assert same(fast, again)


def test_a_model_may_need_no_adapter() -> None:
    components = random_components()
    fast = Fast(steps=2, guidance=1.5, sampler="ddim")
    painter = painter_of(replace(components, card=components.card.model_copy(update={"fast": fast})))
    [made] = paint(Brief(prompt="a cat", seed=1, fast=True), painter=painter)
    [plain] = paint(Brief(prompt="a cat", seed=1, steps=2, guidance=1.5, sampler="ddim"), painter=painter)
    assert same(made, plain)


def test_what_is_asked_goes_before_what_fast_does(painter: DiffusionPainter) -> None:
    brief = Brief(prompt="a cat", fast=True, steps=2, guidance=1.5, sampler="ddim").resolve(painter.card)
    assert (brief.steps, brief.guidance, brief.sampler) == (2, 1.5, "ddim")


def test_a_model_without_it_says_so() -> None:
    with pytest.raises(BadBrief, match="'tiny' has learned no fast way: leave fast out"):
        Brief(prompt="a cat", fast=True).resolve(random_components().card)


def test_the_models_own_adapter_is_meant_even_where_another_has_its_name(painter: DiffusionPainter) -> None:
    [before] = paint(Brief(prompt="a cat", seed=1, fast=True), painter=painter)
    Path("adapters").mkdir()
    write_adapter(random_adapter(painter, "fast", seed=9), Path("adapters/fast.safetensors"))
    [after] = paint(Brief(prompt="a cat", seed=1, fast=True), painter=painter)
    assert same(before, after)


def test_apps_that_guide_more_do_not_when_fast(painter: DiffusionPainter) -> None:
    for [made] in (
        redraw(picture(painter), "a dog", painter=painter, fast=True, strength=1.0),
        stylize(picture(painter), "a dog", style="ink-wash", painter=painter, fast=True, strength=1.0),
    ):
        assert made.brief.fast
        assert (made.brief.steps, made.brief.guidance) == (STEPS, 1.0)


def test_fast_of_edit_is_a_way_to_edit(painter: DiffusionPainter) -> None:
    inputs = edit.parse({"prompt": "a dog", "image": picture(painter), "fast": True}, Session.of(painter))
    assert (inputs.method, inputs.brief().fast) == ("inversion", False)
    [made] = edit(picture(painter), "a dog", painter=painter, fast=True)
    assert (made.brief.fast, made.brief.steps) == (False, painter.card.steps)


def test_as_a_parameter_and_with_quality(painter: DiffusionPainter) -> None:
    words, asked = split("a cat --fast --q 2")
    made = brief_fields(asked, painter.card, {"prompt": words})
    assert made == {"prompt": "a cat", "fast": True, "steps": 2 * STEPS}
    with pytest.raises(BadBrief, match="behind --fast"):
        split("a cat --fast dog")


def test_taste_does_not_guide_what_has_its_guidance_in_it(painter: DiffusionPainter) -> None:
    """Stylize scales guidance: at 1.35 the network would be asked twice, for words and for none."""
    [plain] = paint(Brief(prompt="a cat", seed=1, fast=True), painter=painter)
    [tasty] = paint(Brief(prompt="a cat", seed=1, fast=True, stylize=500), painter=painter)
    assert same(plain, tasty)


def test_a_subject_cannot_take_the_name(painter: DiffusionPainter, tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / name)
    with pytest.raises(BadBrief, match="name 'fast' is taken by an adapter of model 'tiny'"):
        learn("fast", (str(tmp_path),), kind="cat", painter=painter)


def test_enlarging_paints_nothing_so_nothing_is_fast(painter: DiffusionPainter) -> None:
    [made] = upscale(picture(painter), painter=painter, fast=True)
    assert not made.brief.fast
