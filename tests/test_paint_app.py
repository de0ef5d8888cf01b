"""The app over the protocol: it works with any painter, and every picture can be repainted alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import danqing
from danqing.apps._session import Session
from danqing.apps.paint import paint
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.errors import BadBrief, NotFinite
from danqing.core.painter import Canvas, Conditioning, Painter
from danqing.core.picture import Picture
from danqing.core.progress import Progress
from danqing.core.seeds import Seeds
from danqing.families.stable_diffusion.painter import random_painter
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


def test_an_unknown_sampler_is_told_before_a_model_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "painter", lambda *_: pytest.fail("a model was opened"))
    with pytest.raises(BadBrief, match="did you mean 'euler'"):
        paint("a cat", sampler="eulr")


def test_whoever_watches_sees_every_step_and_may_cancel() -> None:
    seen: list[int] = []

    def watch(canvas: Canvas) -> None:
        seen.append(canvas.step)
        if canvas.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint("a cat", painter=Toy(), steps=5, progress=watch)
    assert seen == [1, 2]


def test_a_painter_without_transparency() -> None:
    card = CARD.model_copy(update={"can": frozenset(), "name": "opaque"})
    assert paint("a cat", painter=Toy(card, channels=3))[0].image.mode == "RGB"
    with pytest.raises(BadBrief, match="white only"):
        paint("a cat", painter=Toy(card, channels=3), background="transparent")


@pytest.fixture(scope="module")
def real() -> Painter:
    return random_painter("tiny")


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral", "dpmpp_2m_sde_karras", "unipc"])
def test_picture_k_of_a_grid_is_the_same_picture_alone_byte_for_byte(real: Painter, sampler: str) -> None:
    sheet = paint("一只小猫", painter=real, seed=5, count=4, steps=4, sampler=sampler)
    assert len({picture.image.tobytes() for picture in sheet}) == 4
    for k, picture in enumerate(sheet):
        (alone,) = paint("一只小猫", painter=real, seed=5 + k, steps=4, sampler=sampler)
        assert alone.image.tobytes() == picture.image.tobytes()
        assert alone.brief == picture.brief


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_a_saved_picture_repaints_byte_for_byte(real: Painter, tmp_path: Path, name: str) -> None:
    asked = {"count": 3, "steps": 3, "negative_prompt": "blue", "background": "transparent", "width": 192}
    third = paint("a cat, 3d style", painter=real, **asked)[2]
    opened = Picture.open(third.save(tmp_path / name))
    (again,) = paint(opened.brief, painter=real)
    assert again.image.size == (192, 128)
    assert again.image.tobytes() == third.image.tobytes() == opened.image.tobytes()
    assert again.brief == third.brief


def test_a_batch_is_an_opt_in_that_may_round_differently(real: Painter) -> None:
    """Measured: equal or off by one in a few bytes, as kernels round by batch size."""
    alone = paint("a cat", painter=real, seed=5, count=3, steps=2)
    batched = paint("a cat", painter=real, seed=5, count=3, steps=2, batch=2)
    assert [picture.brief for picture in batched] == [picture.brief for picture in alone]
    for one, two in zip(alone, batched, strict=True):
        off = np.abs(np.asarray(one.image).astype(int) - np.asarray(two.image))
        assert off.max() <= 1
        assert off.mean() < 1e-2


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (9, [5])])
def test_steps_are_counted_over_all_pictures(batch: int, sizes: list[int]) -> None:
    batches: list[tuple[int, ...]] = []

    class Watched(Toy):
        def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
            batches.append(seeds.seeds)
            return super().begin(brief, conditioning, seeds)

    events: list[Progress] = []
    paint("a cat", painter=Watched(), seed=7, count=5, steps=2, batch=batch, progress=events.append)
    total = 2 * len(sizes)
    assert [(event.step, event.of) for event in events] == [(step, total) for step in range(1, total + 1)]
    assert [len(seeds) for seeds in batches] == sizes
    assert [seed for seeds in batches for seed in seeds] == [7, 8, 9, 10, 11]


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(BadBrief, match="batch 0"):
        paint("a cat", painter=Toy(), batch=0)


def test_pictures_are_enlarged_one_by_one() -> None:
    class Careful(Toy):
        def upscale(self, pixels: torch.Tensor) -> torch.Tensor:
            assert len(pixels) == 1, "a sheet at once would need gigabytes"
            return super().upscale(pixels)

    assert len(paint("a cat", painter=Careful(), count=4)) == 4
