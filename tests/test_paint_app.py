"""The app over the protocol: it works with any painter, and every picture can be repainted alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import danqing
from danqing.apps.paint import paint
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief, NotFinite
from danqing.core.painter import Canvas
from danqing.core.picture import Picture
from danqing.families.stable_diffusion import random_painter
from tests.toy import CARD, Toy


def test_one_picture_per_seed_each_with_its_own_brief() -> None:
    pictures = paint("a cat", painter=Toy(), seed=5, count=3)
    assert [picture.brief.seed for picture in pictures] == [5, 6, 7]
    assert {picture.brief.count for picture in pictures} == {1}
    assert pictures[0].image.size == (32, 32)
    assert pictures[0].brief.model == "toy", "the picture tells who painted it"
    assert pictures[0].info.versions["danqing"] == danqing.__version__
    assert pictures[0].info.sampler == "DPM++ 2M"


def test_a_saved_picture_repaints_itself_alone(tmp_path: Path) -> None:
    third = paint("a cat", painter=Toy(), seed=5, count=3, background="transparent")[2]
    brief = Picture.open(third.save(tmp_path / "a.png")).brief
    (again,) = paint(brief, painter=Toy())
    assert again.image.tobytes() == third.image.tobytes()
    assert again.brief == third.brief


def test_no_seed_is_a_new_seed_and_it_is_told() -> None:
    one, two = (paint("a cat", painter=Toy())[0].brief.seed for _ in range(2))
    assert one != two
    assert None not in (one, two)


def test_native_is_not_enlarged() -> None:
    assert paint("a cat", painter=Toy(), native=True)[0].image.size == (16, 16)


def test_fields_on_top_of_a_brief_are_checked() -> None:
    brief = Brief.of("a cat", steps=9)
    assert paint(brief, painter=Toy(), seed=1)[0].brief.steps == 9
    with pytest.raises(BadBrief, match="steps 0"):
        paint(brief, painter=Toy(), steps=0)


def test_words_that_did_not_fit_are_told() -> None:
    assert paint("1 2 3 4 5 6 7 8 nine ten", painter=Toy())[0].info.dropped == "nine ten"


def test_broken_numbers_give_no_picture() -> None:
    with pytest.raises(NotFinite):
        paint("nan", painter=Toy())


def test_an_unknown_sampler_is_told_before_a_model_is_opened() -> None:
    with pytest.raises(BadBrief, match="did you mean 'euler'"):
        paint("a cat", model="nowhere", sampler="eulr")


def test_whoever_watches_sees_every_step_and_may_cancel() -> None:
    seen: list[int] = []

    def watch(canvas: Canvas) -> None:
        seen.append(canvas.step)
        if canvas.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint("a cat", painter=Toy(), steps=5, watch=watch)
    assert seen == [1, 2]


def test_a_painter_without_transparency() -> None:
    card = CARD.model_copy(update={"can": frozenset(), "name": "opaque"})
    assert paint("a cat", painter=Toy(card, channels=3))[0].image.mode == "RGB"
    with pytest.raises(BadBrief, match="white only"):
        paint("a cat", painter=Toy(card, channels=3), background="transparent")


def test_a_real_painter_repaints_each_picture_alone() -> None:
    painter = random_painter("tiny")
    sheet = paint("一只小猫", painter=painter, seed=5, count=3, steps=2, background="transparent")
    (alone,) = paint(sheet[2].brief, painter=painter)
    assert alone.brief == sheet[2].brief
    one, two = (np.asarray(picture.image).astype(int) for picture in (alone, sheet[2]))
    assert np.abs(one - two).max() <= 1, "batches may differ in the last bit of a float"
    assert sheet[0].image.size == (128, 128)


def test_pictures_are_enlarged_one_by_one() -> None:
    class Careful(Toy):
        def enlarge(self, pixels: torch.Tensor) -> torch.Tensor:
            assert len(pixels) == 1, "a sheet at once would need gigabytes"
            return super().enlarge(pixels)

    assert len(paint("a cat", painter=Careful(), count=4)) == 4
