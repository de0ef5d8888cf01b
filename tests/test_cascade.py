"""Painters in a row: what each stage is shown and told, and that the row is a painter like any other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Can, Card
from danqing.core.errors import BadWeights, NotFinite
from danqing.core.painter import Conditioning, InputImages
from danqing.core.progress import Progress, no_progress
from danqing.core.seeds import InterpolatedSeeds, Seeds
from danqing.diffusion.cascade import (
    Cascade,
    PreconditionedSuperResolution,
    SuperResolution,
    add_noise,
)
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.samplers import SAMPLERS, run_sampler
from danqing.diffusion.schedule import Level, Schedule
from danqing.diffusion.vae import IdentityVAE
from danqing.training.cascade import SuperResolutionObjective
from danqing.training.trainer import Trainer, TrainOptions, step_generator
from tests.tiny import stickers

SCHEDULE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def card(side: int, steps: int = 3, **fields: Any) -> Card:
    card_fields = {
        "paper": "2205.11487",
        "year": 2022,
        "licence": "Apache-2.0",
        "summary": "tests",
        "size_multiple": 4,
    }
    card_fields |= {"steps": steps, "guidance": 2.0, "sampler": "ddim", "can": frozenset(Can)}
    return Card(name=f"{side} px", family="imagen", width=side, height=side, **{**card_fields, **fields})


def tokens(words: str) -> Conditioning:
    """One state: how long the words are."""
    return Conditioning(torch.full((1, 1, 1), float(len(words))))


class Net(nn.Module):
    """A random convolution of all that it is shown; notes what it is shown and told."""

    def __init__(self, channels: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.calls: list[Any] = []

    def forward(self, x: Tensor | Any, t: Tensor | Any, words: Conditioning) -> Tensor | Any:
        self.calls.append((x, t, words))
        x = x if words.concat is None else torch.cat([x, words.concat], dim=1)
        level = torch.zeros(len(x)) if words.concat_level is None else words.concat_level
        shift = words.tokens.mean((1, 2)) / 50 + level
        return self.conv(x) + shift.view(-1, 1, 1, 1)


def painter(net: Net, side: int, **fields: Any) -> DiffusionPainter:
    return DiffusionPainter(
        card=card(side, **fields),
        text=tokens,
        network=net,
        prediction=Prediction.V,
        schedule=Schedule.from_config(SCHEDULE),
        vae=IdentityVAE(4),
    )


def cascade(**fields: Any) -> Cascade:
    """8 -> 16 -> 32 pixels in 3, 2 and 1 steps."""
    base = painter(Net(4), 8)
    stages = [
        SuperResolution(painter(Net(8, seed), side, steps=steps), factor=2, **fields)
        for seed, side, steps in ((1, 16, 2), (2, 32, 1))
    ]
    return Cascade(card(32, size_multiple=16), base, tuple(stages))


def resolved(row: Cascade | DiffusionPainter, **fields: Any) -> ResolvedBrief:
    return Brief(**{"prompt": "a cat", "seed": 5, "count": 1, **fields}).resolve(row.card)


def walk(
    row: Cascade | DiffusionPainter,
    brief: ResolvedBrief,
    images: InputImages | None = None,
    seeds: Any = None,
) -> list[Any]:
    words = row.condition(brief) if images is None else row.condition(brief, images)
    canvas = row.begin(brief, words, seeds or Seeds.of(brief.seed, brief.count))
    return [canvas, *row.steps(brief, words, canvas)]


def test_one_canvas_per_stage_and_step_each_with_a_preview() -> None:
    row = cascade()
    canvases = walk(row, resolved(row, count=2))
    assert [(canvas.step, canvas.of) for canvas in canvases] == [(step, 6) for step in range(7)]
    assert [canvas.state.shape[-1] for canvas in canvases] == [8, 8, 8, 8, 16, 16, 32]
    for canvas in canvases:
        for each in (canvas, replace(canvas, step=canvas.step + 6, of=12)):  # as an app counts many parts
            preview = row.preview(each)
            assert preview.shape == (2, 3, *canvas.state.shape[-2:])
            assert 0 <= preview.min() <= preview.max() <= 1
    assert row.finish(canvases[-1]).shape == (2, 4, 32, 32)


def test_the_first_steps_are_the_base_by_itself() -> None:
    row = cascade()
    brief = resolved(row)
    alone = resolved(row.base)
    *_, last = walk(row.base, alone)
    assert torch.equal(walk(row, brief)[3].state, last.state)


def test_a_stage_sees_the_finished_picture_of_the_one_before_and_its_level() -> None:
    row = cascade(level=0.0)
    canvases = walk(row, resolved(row))
    for stage, before in zip(row.stages, (canvases[3], canvases[5]), strict=True):
        _, _, words = stage.painter.network.calls[0]
        expected = torch.nn.functional.interpolate(before.state.clamp(-1, 1), scale_factor=2, mode="bilinear")
        rows = len(words.concat)  # guided: without words and with them
        assert rows == 2
        assert torch.equal(words.concat, expected.expand(rows, -1, -1, -1))
        assert words.concat_level.tolist() == [0.0] * rows


def test_augmentation_goes_from_the_picture_to_pure_noise() -> None:
    picture, noise = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(add_noise(picture, torch.zeros(3), noise), picture)
    assert torch.equal(add_noise(picture, torch.ones(3), noise), noise)
    for s in (0.2, 0.5, 0.9):  # as much noise as the cosine schedule has, and unit variance
        noisy = add_noise(picture, torch.full((3,), s), noise)
        assert abs(float((noisy * noise).mean()) - torch.sin(torch.tensor(s * torch.pi / 2))) < 0.03
        assert abs(float(noisy.var()) - 1) < 0.05


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_picture_is_the_same_in_a_batch_and_alone(sampler: str) -> None:
    """Measured: exact here; kernels may round by batch size."""
    row = cascade()
    brief = resolved(row, count=3, sampler=sampler)
    together = row.finish(walk(row, brief)[-1])
    for k in range(3):
        alone = row.finish(walk(row, brief.alone(k))[-1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-5)


def test_stages_draw_noise_of_their_own() -> None:
    draws = [Seeds([7]).normal(4096), Seeds([7]).further(1).normal(4096), Seeds([7]).further(2).normal(4096)]
    correlations = torch.corrcoef(torch.cat(draws)) - torch.eye(3)
    assert correlations.abs().max() < 0.06  # 4 / sqrt(4096)
    assert Seeds([7, 8]).further(1).seeds[1:] == Seeds([8]).further(1).seeds
    between = InterpolatedSeeds(3, [7, 8], 0.0).further(1)
    assert torch.equal(between.normal(16), Seeds([3, 3]).further(1).normal(16))
    between = InterpolatedSeeds(3, [7, 8], 1.0).further(1)
    torch.testing.assert_close(between.normal(16), Seeds([7, 8]).further(1).normal(16))


def test_cancelling_asks_no_later_stage() -> None:
    row = cascade()
    brief = resolved(row)
    words = row.condition(brief)
    steps = row.steps(brief, words, row.begin(brief, words, Seeds([5])))
    *_, fourth = islice(steps, 4)
    steps.close()
    assert fourth.state.shape[-1] == 16
    assert len(row.stages[0].painter.network.calls) == 1
    assert row.stages[1].painter.network.calls == []
    assert row.finish(fourth).shape[-1] == 16


def test_steps_of_a_brief_are_shared_in_proportion() -> None:
    row = cascade()
    assert walk(row, resolved(row, steps=6))[0].of == 6 + 4 + 2
    assert walk(row, resolved(row, steps=1))[0].of == 1 + 1 + 1


def test_guidance_is_of_the_base_and_taste_too() -> None:
    row = cascade()
    walk(row, resolved(row, guidance=1.0, chaos=50, stylize=300))
    base, first = row.base.network.calls[0], row.stages[0].painter.network.calls[0]
    assert [len(base[0]), len(first[0])] == [2, 2]  # chaos pulls at the base's words
    plain = row.stages[0].painter.text("a cat").tokens
    assert torch.equal(first[2].tokens[1:], plain)


def test_what_is_outside_a_region_is_kept_by_every_stage() -> None:
    row = cascade()
    picture = torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    region = torch.zeros(1, 1, 32, 32)
    region[..., 8:24, 8:24] = 1
    *_, last = walk(row, resolved(row), InputImages(picture, region))
    painted = row.finish(last)
    torch.testing.assert_close(painted * (1 - region), picture * (1 - region), rtol=0, atol=1e-6)
    assert (painted - picture)[..., 8:24, 8:24].abs().mean() > 0.1


def test_redrawing_begins_at_the_given_picture() -> None:
    row = cascade()
    brief = resolved(row, strength=0.34)
    canvas, *_ = walk(row, brief, InputImages(torch.full((1, 4, 32, 32), 0.5)))
    blank, *_ = walk(row, resolved(row))
    assert canvas.of == 1 + 2 + 1
    assert abs(float(canvas.state.mean()) - float(blank.state.mean())) > 0.2


def test_sizes_that_do_not_meet_are_named() -> None:
    row = cascade()
    with pytest.raises(BadWeights, match=r"'32 px' enlarges pictures of 16 pixels, '8 px' paints 8"):
        Cascade(row.card, row.base, row.stages[1:])


def test_nan_in_a_stage_is_told() -> None:
    row = cascade()
    with torch.no_grad():
        row.stages[0].painter.network.conv.bias.fill_(float("nan"))
    with pytest.raises(NotFinite, match="step 1 of 2"):
        walk(row, resolved(row))


def objective(**fields: Any) -> SuperResolutionObjective:
    stage = cascade().stages[1]

    return SuperResolutionObjective(stage, stage.painter.network, stickers(), **fields)


def test_the_small_picture_is_the_large_one_reduced_wherever_it_was_cut() -> None:
    batch = objective(crop=16).batch(6, step_generator(0, 1))
    assert batch["latents"].shape == (6, 4, 16, 16)
    reduced = torch.nn.functional.avg_pool2d(batch["latents"], 2)
    assert torch.equal(batch["small"], reduced)
    assert batch["level"].unique().numel() == 6
    assert 0 <= batch["level"].min() <= batch["level"].max() < 1


def test_resuming_is_bit_equal(tmp_path: Path) -> None:
    def train(run: str, steps: int, progress: Callable[..., Any] = no_progress) -> dict[str, Any]:
        torch.manual_seed(0)
        pace = {"batch": 4, "lr": 5e-3, "warmup": 2, "precision": "no", "log_every": 1, "save_every": 2}
        options = TrainOptions(steps=steps, sheet_every=10**9, **pace)
        return Trainer(objective(crop=16), options, tmp_path / run).train(progress).state_dict()

    class KilledError(Exception):
        pass

    def killing(event: Progress) -> None:
        if event.message.startswith("step 3/"):
            raise KilledError

    whole = train("whole", 4)
    with pytest.raises(KilledError):
        train("cut", 4, killing)
    again = train("cut", 4)
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_a_stage_learns_to_see_the_small_picture() -> None:
    """Measured: the loss falls to 0.34 of what it was in 60 steps."""
    learner = objective()
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.02)

    def loss(step: int) -> Tensor:
        return learner(learner.batch(16, step_generator(0, step)))["loss"]

    before = loss(1000).item()
    for step in range(60):
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
    assert loss(1000).item() < 0.7 * before
    assert learner.sheet().size == (8 * 32, 3 * 32)


# ---- what the small picture lets expect

COSINE = Schedule.from_config({"beta_schedule": "squaredcos_cap_v2"})


def expecting(prediction: Prediction = Prediction.V, **fields: Any) -> PreconditionedSuperResolution:
    return PreconditionedSuperResolution(lambda x, *_: torch.zeros_like(x), prediction, COSINE, **fields)


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("level", [0.0, 0.3, 0.9])
def test_the_expected_picture_is_the_posterior_mean(prediction: Prediction, level: float) -> None:
    """Two measurements of a pixel whose prior is wide: the shown picture and x; by precisions, in float64."""
    rng = torch.Generator().manual_seed(0)
    low, x = torch.randn(2, 3, 2, 4, 4, generator=rng)
    t, levels = torch.tensor([20.0, 500.0, 900.0]), torch.full((3,), level)
    net = expecting(prediction)
    words = Conditioning(torch.zeros(3, 1, 1), concat=low, concat_level=levels)
    alpha, sigma = (part.view(-1, 1, 1, 1).double() for part in COSINE.at(t.long()))
    clean = prediction.x0(x.double(), net(x, t, words).double(), alpha, sigma)
    a, b = math.cos(math.pi * level / 2), math.sin(math.pi * level / 2)
    small = 1 / (1 / net.spread**2 + a**2 / b**2) if b else 0.0  # variance of the small picture's pixel
    mean = small * a / b**2 * low.double() if b else low.double()
    wide = small + net.error**2
    precision = 1 / wide + alpha**2 / sigma**2
    expected = (mean / wide + alpha / sigma**2 * x.double()) / precision
    assert torch.allclose(clean, expected, rtol=2e-3, atol=2e-3)  # epsilon at t = 900 divides by 0.16


def test_a_network_of_zeros_enlarges_smoothly() -> None:
    """From pure noise to within the error it reckons with, the mean being the bilinear picture."""
    small = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    large = F.interpolate(small, scale_factor=2, mode="bilinear")
    net, levels = expecting(), COSINE.levels(50, "trailing")
    words = Conditioning(torch.zeros(64, 1, 1), concat=large, concat_level=torch.zeros(64))

    def denoise(x: Tensor, level: Level) -> Tensor:
        output = net(x, torch.full((64,), level.t), words)
        return Prediction.V.x0(x, output, level.alpha, level.sigma)

    *_, (sample, _) = run_sampler(
        SAMPLERS["ddim"].sample(torch.randn(large.shape), levels, Seeds.of(0, 64)), denoise
    )
    assert (sample - large).std() == pytest.approx(net.error, rel=0.1)
    assert (sample - large).mean().abs() < 0.01


def test_times_between_those_of_the_table() -> None:
    alpha, sigma = expecting()._at(torch.tensor([10.0, 10.5, 999.0]))
    table = COSINE.alpha_bar
    assert alpha.flatten()[1] ** 2 == pytest.approx(float((table[10] + table[11]) / 2), rel=1e-5)
    assert (alpha**2 + sigma**2).flatten() == pytest.approx([1, 1, 1])
