"""Losses against closed forms and differences, augmentation, and the trainer of a duel."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn import Sequential

from danqing.conditioning.names import NO_NAMES
from danqing.core.errors import BadData, NotFinite
from danqing.core.progress import Progress
from danqing.data.dataset import CaptionedImages
from danqing.families import gan
from danqing.families.stylegan import painter as stylegan
from danqing.nets.stylegan.generator import Synthesis
from danqing.training.adaptive_augment import augment, next_probability
from danqing.training.adversarial import AdversarialOptions, AdversarialTrainer, Signs
from danqing.training.adversarial_losses import (
    discriminator_loss,
    generator_loss,
    path_lengths,
    spread,
    squared_gradient,
)
from danqing.training.gan import GanOptions, GanTask, names_of
from danqing.training.trainer import step_generator
from tests.progress import Lines
from tests.tiny import stickers

DATA = stickers()
NAMES = names_of(DATA)
LIVELY = GanOptions(r1=0.1, r1_every=2, path=2.0, path_every=2, target=-0.9, span=100, half_life=30)
KINDS = {
    "mlp": lambda seed: gan.fresh_networks("tiny-mlp", NAMES, seed),
    "dcgan": lambda seed: gan.fresh_networks("tiny", NAMES, seed),
    "stylegan": lambda seed: stylegan.fresh_networks("tiny", NAMES, seed),
}
each = pytest.mark.parametrize("kind", list(KINDS))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=step_generator(seed, 0), dtype=torch.float64)


def duel_of(kind: str, seed: int = 0, **fields: Any) -> GanTask:
    options = replace(LIVELY, **({} if kind == "stylegan" else {"path": 0.0}), **fields)
    return GanTask(*KINDS[kind](seed), DATA, NAMES, options)


def options(**fields: Any) -> AdversarialOptions:
    return AdversarialOptions(**{"steps": 6, "batch": 4, "log_every": 1, "sheet_every": 10**9, **fields})


# ---- losses


def test_losses_are_cross_entropies() -> None:
    real, fake = normal(50), normal(50, seed=1)
    against = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(50).double(), torch.zeros(50).double()
    expected = against(real, ones) + against(fake, zeros)
    torch.testing.assert_close(discriminator_loss(real, fake), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(generator_loss(fake), against(fake, ones), rtol=1e-12, atol=0)


def test_an_undecided_discriminator_loses_log_4() -> None:
    """The value of the game at the optimum (arXiv 1406.2661 theorem 1)."""
    nothing = torch.zeros(8, dtype=torch.float64)
    assert float(discriminator_loss(nothing, nothing)) == pytest.approx(math.log(4), abs=1e-12)


def test_the_best_discriminator_is_the_ratio_of_densities() -> None:
    """Between N(1, 1) and N(-1, 1): logit D* = log p / q = 2 x (proposition 1). Measured: 2.0003."""
    grid = torch.from_numpy(norm.ppf((torch.arange(4000).numpy() + 0.5) / 4000))
    line = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = discriminator_loss(line[0] * (grid + 1) + line[1], line[0] * (grid - 1) + line[1])
        loss.backward()
        return loss

    optimiser.step(closure)
    slope, shift = line.tolist()
    assert slope == pytest.approx(2, abs=2e-2)
    assert shift == pytest.approx(0, abs=1e-6)


def smooth_judge() -> Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1))
    return body.double()


def test_r1_against_central_differences() -> None:
    """The gradient's square, and how it changes with a weight. Measured: 3e-11 and 2e-10 relative."""
    judge, x = smooth_judge(), normal(2, 2, 4, 4)
    squares = squared_gradient(judge(x.requires_grad_())[:, 0], x)
    step, slopes = 1e-5, torch.zeros_like(x)
    with torch.no_grad():
        for index in range(x[0].numel()):
            moved = torch.zeros_like(x).flatten(1)
            moved[:, index] = step
            above, below = (judge(x + sign * moved.view_as(x))[:, 0] for sign in (1, -1))
            slopes.view(2, -1)[:, index] = (above - below) / (2 * step)
    torch.testing.assert_close(squares.detach(), slopes.square().sum(dim=(1, 2, 3)), rtol=1e-8, atol=0)
    weight = judge[0].weight
    (slope,) = torch.autograd.grad(squares.mean(), weight)

    def moved_by(amount: float) -> float:
        with torch.no_grad():
            weight[0, 0, 1, 1] += amount
        value = squared_gradient(judge(x)[:, 0], x).mean().item()
        with torch.no_grad():
            weight[0, 0, 1, 1] -= amount
        return value

    difference = (moved_by(step) - moved_by(-step)) / (2 * step)
    assert float(slope[0, 0, 1, 1]) == pytest.approx(difference, rel=1e-6)


def path_parts() -> tuple[Synthesis, Tensor, Tensor]:
    generator, _ = stylegan.fresh_networks("tiny")
    generator = generator.double().eval()
    ws = generator.rows(generator.mapping(normal(2, 8), torch.zeros(2, 0).double()))
    return generator.synthesis, ws.detach().requires_grad_(), normal(2, 4, 16, 16, seed=1)


def test_path_lengths_against_the_whole_jacobian() -> None:
    """The gradient of the sum against J^T y row by row; float64. Measured: 1e-16 relative."""
    synthesis, ws, noise = path_parts()
    lengths = path_lengths(synthesis(ws), ws, noise)
    jacobian = torch.autograd.functional.jacobian(lambda row: synthesis(row)[0].flatten(), ws[1:])
    pulled = torch.einsum("p,pard->rd", noise[1].flatten() / 16, jacobian)
    expected = pulled.square().sum(dim=1).mean().sqrt()
    torch.testing.assert_close(lengths[1].detach(), expected, rtol=1e-12, atol=1e-14)


def test_the_slope_of_the_path_penalty_against_central_differences() -> None:
    """Leaky ReLUs have no second derivative at 0 only. Measured: 8e-11 relative."""
    synthesis, ws, noise = path_parts()
    weight = synthesis.layers[2].conv.weight

    def penalty() -> Tensor:
        return (path_lengths(synthesis(ws), ws, noise) - 0.1).square().mean()

    (slope,) = torch.autograd.grad(penalty(), weight)
    place, step = int(slope.abs().argmax()), 1e-5

    def moved_by(amount: float) -> float:
        with torch.no_grad():
            weight.view(-1)[place] += amount
        value = penalty().item()
        with torch.no_grad():
            weight.view(-1)[place] -= amount
        return value

    difference = (moved_by(step) - moved_by(-step)) / (2 * step)
    assert float(slope.flatten()[place]) == pytest.approx(difference, rel=1e-6)


def test_spread() -> None:
    pictures = normal(20, 4, 3, 3)
    assert spread(pictures, pictures) == pytest.approx(1)
    assert spread(pictures / 2, pictures) == pytest.approx(0.25)
    assert spread(pictures[:1].expand(20, -1, -1, -1), pictures) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", ["dcgan", "stylegan"])
def test_lazy_penalties_count_as_often_as_they_are_rare(kind: str) -> None:
    """At steps 0, 1 from the same draws: the difference is the penalty times its period."""
    for every in (1, 3):
        duel = duel_of(kind, r1_every=every, r1=0.5, target=None)
        due, not_due = (duel.discriminator_losses(4, step_generator(0, 0), step) for step in (0, 1))
        real, label = duel._real(4, step_generator(0, 0))
        squares = squared_gradient(duel.discriminator(real.requires_grad_(), label), real).mean()
        if every == 1:
            torch.testing.assert_close(due["loss"], not_due["loss"], rtol=1e-3, atol=1e-3)
        else:
            penalty = due["loss"] - not_due["loss"]
            torch.testing.assert_close(penalty, 0.5 / 2 * every * squares, rtol=1e-3, atol=1e-5)


# ---- adaptive augmentation


def unit_pictures() -> Tensor:
    return DATA.pictures.float() / 127.5 - 1


def test_no_augmentation_is_none_and_takes_the_same_draws() -> None:
    pixels, ends = unit_pictures(), []
    for p in (0.0, 0.5):
        rng = step_generator(0, 0)
        changed = augment(pixels, p, rng)
        ends.append(torch.rand(1, generator=rng))
        assert torch.equal(changed, pixels) == (p == 0)
    assert torch.equal(*ends)


def test_the_share_of_changed_pictures_grows_with_p() -> None:
    """Seven gates each open with p: 1 - (1 - p)^7 are changed, but for mirrored ones that stay."""
    pixels = unit_pictures()[:1].expand(600, -1, -1, -1)
    shares = []
    for p in (0.02, 0.1, 0.3):
        changed = augment(pixels, p, step_generator(0, 0))
        shares.append(float((changed - pixels).abs().flatten(1).amax(dim=1).gt(1e-4).float().mean()))
        assert shares[-1] == pytest.approx(1 - (1 - p) ** 6.25, abs=0.05)
    assert shares == sorted(shares)


def test_bare_paper_stays_bare() -> None:
    paper = torch.ones(40, 4, 16, 16)
    paper[:, 3] = -1
    torch.testing.assert_close(augment(paper, 1.0, step_generator(0, 0)), paper, rtol=0, atol=1e-6)


def test_augmentation_lets_gradients_through() -> None:
    pixels = unit_pictures().requires_grad_()
    augment(pixels, 0.9, step_generator(0, 0)).sum().backward()
    assert pixels.grad.abs().amax(dim=(1, 2, 3)).min() > 0


def test_strength_follows_certainty() -> None:
    assert next_probability(0.5, 0.9, 100, span=1000) == pytest.approx(0.6)
    assert next_probability(0.5, 0.1, 100, span=1000) == pytest.approx(0.4)
    assert next_probability(0.5, 0.6, 100, span=1000) == 0.5
    assert next_probability(0.95, 1.0, 100, span=1000) == 1
    assert next_probability(0.05, -1.0, 100, span=1000) == 0


def test_a_duel_adapts_every_four_steps() -> None:
    duel = duel_of("dcgan", span=160)
    with torch.no_grad():
        duel.discriminator.verdict.head.bias.fill_(50.0)  # sure of everything
    for step in range(8):
        assert float(duel.strength) == pytest.approx((step // 4) * 16 / 160)
        duel.discriminator_losses(4, step_generator(0, step), step)
    assert float(duel.strength) == pytest.approx(0.2)


# ---- the duel


def test_the_average_has_a_half_life_and_copies_buffers() -> None:
    duel = duel_of("dcgan", half_life=100)
    with torch.no_grad():
        for mean, now in zip(duel.average.parameters(), duel.generator.parameters(), strict=True):
            mean.fill_(0)
            now.fill_(1)
        for buffer in duel.generator.buffers():
            buffer.fill_(7)
    for k in range(10):
        duel.follow(10_000 + 10 * k, 10)
    assert all(torch.allclose(p, torch.tensor(0.5)) for p in duel.average.parameters())
    assert all((buffer == 7).all() for buffer in duel.average.buffers())
    duel.follow(10, 10)  # in the beginning the average is nearly the network itself
    assert float(next(duel.average.parameters()).mean()) > 0.99


@each
def test_a_step_is_a_function_of_weights_seed_and_step(kind: str) -> None:
    losses = []
    for noise in (1, 2):
        duel = duel_of(kind)
        torch.manual_seed(noise)
        first = duel.discriminator_losses(4, step_generator(0, 2), 2)["loss"]
        losses.append((first.item(), duel.generator_losses(4, step_generator(0, 3), 2)["loss"].item()))
    assert losses[0] == losses[1]


def test_names_of_a_data_set() -> None:
    assert NAMES.entries == (
        "cat/猫",
        "owl/猫头鹰",
        "red apple/苹果",
        "rocket/火箭",
        "3d/3D",
        "cartoon/卡通",
        "flat/扁平",
        "paper-cut/剪纸",
    )
    assert duel_of("mlp")._labels[5].tolist() == [0, 0, 1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        (DATA.where(lambda row: row["concept"] == "cat" and row["style"] == "3d"), "1 picture is too few"),
        (stickers(24), "pictures of 24 x 24 pixels do not fit a network of 16.*16 or 32 pixels square"),
        (stickers(8), "pictures of 8 x 8 .*: resize them to 16 pixels square"),
        (
            CaptionedImages(DATA.pictures[..., :16], DATA.rows),
            r"pictures of 16 x 32 .*: resize them to 16 pixels square",
        ),
    ],
)
def test_data_that_cannot_be_learned_from(pictures: CaptionedImages, said: str) -> None:
    with pytest.raises(BadData, match=said) as raised:
        GanTask(*gan.fresh_networks("tiny"), pictures, NO_NAMES, LIVELY)
    assert "\n" not in str(raised.value)


def test_batches_are_checked_before_training(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="batch 1 is too small for batch norm"):
        AdversarialTrainer(duel_of("dcgan"), options(batch=1), tmp_path)
    with pytest.raises(BadData, match="batch 6 is no multiple of the 4 pictures"):
        AdversarialTrainer(duel_of("stylegan"), options(batch=6), tmp_path)


def test_a_data_set_without_names_is_learned_too(tmp_path: Path) -> None:
    duel = GanTask(*stylegan.fresh_networks("tiny"), DATA, NO_NAMES, LIVELY)
    AdversarialTrainer(duel, options(steps=2), tmp_path).train()


# ---- the trainer


class KilledError(Exception):
    """What ends a run from outside."""


def killed_at(step: int) -> Callable[..., Any]:
    def stop(event: Progress) -> None:
        if event.message.startswith(f"step {step}/"):
            raise KilledError

    return stop


@each
def test_an_interrupted_run_continues_bit_equal(kind: str, tmp_path: Path) -> None:
    """With both penalties, augmentation, the average and its buffers, and two optimisers."""
    asked = options(save_every=4)
    whole = AdversarialTrainer(duel_of(kind), asked, tmp_path / "whole")
    whole.train()
    with pytest.raises(KilledError):
        AdversarialTrainer(duel_of(kind), asked, tmp_path / "cut").train(killed_at(6))
    assert json.loads((tmp_path / "cut" / "checkpoint" / "progress.json").read_text())["step"] == 4
    again = AdversarialTrainer(duel_of(kind, seed=9), asked, tmp_path / "cut")
    again.train()
    mine, theirs = whole.task.state_dict(), again.task.state_dict()
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert float(whole.task.strength) > 0
    states = [
        torch.load(tmp_path / run / "checkpoint" / "optimiser.pt", weights_only=True)
        for run in ("whole", "cut")
    ]
    for side in ("generator", "discriminator"):
        one, other = (state[side]["state"] for state in states)
        assert all(torch.equal(one[k][name], other[k][name]) for k in one for name in one[k])


def test_files_of_a_run(tmp_path: Path) -> None:
    trainer = AdversarialTrainer(duel_of("mlp"), options(steps=3, sheet_every=2), tmp_path)
    average = trainer.train()
    assert average is trainer.task.average
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log.csv", "sheets"]
    assert sorted(p.name for p in (tmp_path / "sheets").iterdir()) == ["0000002.png", "0000003.png"]
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert header == "step,discriminator,spread,augmented,generator,pictures_per_second"
    assert len(rows) == 3


def test_nan_stops_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    trainer = AdversarialTrainer(duel_of("dcgan"), options(save_every=3), tmp_path)

    def poison(event: Progress) -> None:
        if event.message.startswith("step 4/"):
            with torch.no_grad():
                next(trainer.task.generator.parameters()).fill_(float("nan"))

    with pytest.raises(NotFinite, match=r"at step 4: training stopped.*lower learning rate"):
        trainer.train(poison)
    again = AdversarialTrainer(duel_of("dcgan", seed=5), options(steps=4), tmp_path)
    again.train()
    assert all(value.isfinite().all() for value in again.task.state_dict().values())


def test_signs_of_a_lost_duel_are_told_once() -> None:
    well = {"discriminator": 0.7, "spread": 0.9, "augmented": 0.2}
    signs = Signs(100)
    assert [line for _ in range(300) for line in signs.of(well)] == []
    for worse, said in (
        ({"discriminator": 1e-4}, "sure for 100 steps"),
        ({"spread": 0.01}, "mode collapse"),
        ({"augmented": 0.9}, "more pictures"),
    ):
        told = [line for _ in range(99) for line in signs.of(well | worse)]
        assert told == []
        told = [line for _ in range(201) for line in signs.of(well | worse)]
        assert len(told) == 1
        assert said in told[0]
        list(signs.of(well))


def test_signs_reach_whoever_watches(tmp_path: Path) -> None:
    duel = duel_of("mlp", r1=0.0)
    with torch.no_grad():
        for parameter in duel.generator.parameters():
            parameter.zero_()
    told = Lines()
    frozen = options(steps=21, patience=20, lr=0.0, lr_discriminator=0.0, log_every=1000, save_every=1000)
    AdversarialTrainer(duel, frozen, tmp_path).train(told)
    assert [line for line in told if "mode collapse" in line and line.startswith("step 20: ")]


def test_a_gan_learns_the_colours_of_its_pictures(tmp_path: Path) -> None:
    """The mean picture of the average nears that of the data. Measured: error 0.68, after 150 steps 0.03."""
    learning = GanOptions(r1=0.1, r1_every=4, target=None, half_life=500)
    duel = GanTask(*gan.fresh_networks("tiny"), DATA, NO_NAMES, learning)
    wanted = duel._real(256, step_generator(5, 0))[0].mean(dim=0)

    def miss() -> float:
        with torch.no_grad():
            drawn = duel.average.draw(64, step_generator(6, 0))
            return float((duel.average(drawn, torch.zeros(64, 0)).mean(dim=0) - wanted).square().mean())

    before = miss()
    asked = options(steps=150, batch=16, lr=3e-3, lr_discriminator=3e-3, betas=(0.5, 0.99), save_every=1000)
    AdversarialTrainer(duel, asked, tmp_path).train()
    assert miss() < 0.2 * before
