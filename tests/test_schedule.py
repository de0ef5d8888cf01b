"""The schedule and the three predictions, against their definitions."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from danqing.core.errors import BadBrief, BadWeights
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import NO_NOISE, SPACINGS, Level, Schedule

SD1: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
ZERO: dict[str, Any] = {**SD1, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}


@pytest.mark.parametrize("config", [SD1, COSINE, ZERO, {}], ids=["sd1", "cosine", "zero", "linear"])
@pytest.mark.parametrize("spacing", list(SPACINGS))
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 333])
def test_levels_descend_to_clean(config: dict[Any, Any], spacing: str, steps: int) -> None:
    levels = Schedule.from_config(config).levels(steps, spacing)
    assert len(levels) == steps + 1
    assert levels[-1] == NO_NOISE
    noise = [level.log_snr for level in levels]
    assert all(a < b for a, b in pairwise(noise))
    assert all(math.isclose(level.alpha**2 + level.sigma**2, 1, abs_tol=1e-12) for level in levels)
    assert all(0 <= level.t < 1000 for level in levels[:-1])


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "karras"])
def test_noisy_end_is_asked(spacing: str) -> None:
    assert Schedule.from_config(COSINE).levels(10, spacing)[0].t == 999


def test_zero_terminal_snr_is_an_ordinary_level() -> None:
    schedule = Schedule.from_config(ZERO)
    first = schedule.levels(10, "trailing")[0]
    assert first == Level(alpha=0.0, sigma=1.0, t=999.0)
    assert first.log_snr == -math.inf
    assert NO_NOISE.log_snr == math.inf
    alpha, sigma = schedule.at(torch.tensor([0, 999]))
    assert alpha.dtype == torch.float32
    assert alpha[1] == 0
    assert sigma[1] == 1
    assert alpha[0] == Schedule.from_config(SD1).at(torch.tensor([0]))[0]  # the level without noise stays


def test_sd1_ends_at_the_first_table_entry() -> None:
    schedule = Schedule.from_config({**SD1, "set_alpha_to_one": False, "steps_offset": 1})
    levels = schedule.levels(50)
    assert [level.t for level in levels[-3:-1]] == [21.0, 1.0]
    assert levels[-1].alpha == schedule.levels_at([0])[0].alpha
    assert schedule.levels(50, set_alpha_to_one=True)[-1] == NO_NOISE


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_steps(steps: int) -> None:
    with pytest.raises(BadBrief, match=rf"steps {steps}: choose from 1 to 1000"):
        Schedule.from_config(SD1).levels(steps)


def test_offset_past_the_table() -> None:
    with pytest.raises(BadBrief, match="use fewer steps"):
        Schedule.from_config({**SD1, "steps_offset": 1}).levels(1000, "leading")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"beta_schedule": "linaer"}, "did you mean 'linear'"),
        ({"timestep_spacing": "trail"}, "did you mean 'trailing'"),
        ({**ZERO, "prediction_type": "epsilon"}, "not epsilon"),
    ],
)
def test_bad_configs(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadWeights, match=message):
        Schedule.from_config(config)


def test_trained_betas() -> None:
    schedule = Schedule.from_config({"trained_betas": [0.1, 0.2]})
    assert schedule.alpha_bar.tolist() == pytest.approx([0.9, 0.72])


@given(angle=st.floats(0.1, 1.4), seed=st.integers(0, 1000))
def test_predictions_are_inverse_to_their_targets(angle: Any, seed: Any) -> None:
    alpha, sigma = math.cos(angle), math.sin(angle)
    x0, noise = torch.randn(2, 1, 2, 3, 3, generator=torch.Generator().manual_seed(seed)).double()
    x = alpha * x0 + sigma * noise
    for prediction in Prediction:
        output = prediction.target(x0, noise, alpha, sigma)
        torch.testing.assert_close(prediction.x0(x, output, alpha, sigma), x0, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(prediction.noise(x, output, alpha, sigma), noise, rtol=1e-9, atol=1e-9)


def test_unknown_prediction() -> None:
    with pytest.raises(BadWeights, match="did you mean 'v_prediction'"):
        Prediction("v_predicton")


@pytest.mark.parametrize("prediction", list(Prediction))
def test_min_snr_weight_is_one_loss_on_the_clean_estimate(prediction: Prediction) -> None:
    """The weight times the output's squared error is min(snr, gamma) times that of x0."""
    angle = torch.linspace(0.05, 1.5, 30, dtype=torch.float64)
    alpha, sigma = angle.cos(), angle.sin()
    snr = (alpha / sigma) ** 2
    x, output, off = torch.tensor(0.3), torch.tensor(0.2), torch.tensor(1.2)
    error = prediction.x0(x, off, alpha, sigma) - prediction.x0(x, output, alpha, sigma)
    expected = snr.clamp(max=5) * error**2
    torch.testing.assert_close(prediction.min_snr_weight(snr, 5.0) * (off - output) ** 2, expected)


@pytest.mark.parametrize(("prediction", "weight"), [("epsilon", 1.0), ("v_prediction", 0.0), ("sample", 0.0)])
def test_min_snr_weight_of_pure_noise_is_finite(prediction: str, weight: float) -> None:
    assert Prediction(prediction).min_snr_weight(torch.zeros(1)).item() == weight


# ---- what a strength means


@pytest.mark.parametrize("strength", [0.001, 0.3, 0.5, 0.999, 1.0])
def test_on_stable_diffusions_schedule_the_share_is_the_strength(strength: float) -> None:
    assert Schedule.from_config(SD1).time_fraction(strength) == pytest.approx(strength, abs=1e-9)


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("zero", [False, True])
def test_a_strength_is_the_same_noise_on_every_schedule(strength: float, zero: bool) -> None:
    """Sigma / alpha of the time where a redraw begins; between two times both are interpolated."""
    ours = Schedule.from_config(
        {
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": zero,
        }
    )
    noise = [
        sigma / alpha
        for schedule, share in ((Schedule.from_config(SD1), strength), (ours, ours.time_fraction(strength)))
        for alpha, sigma in [schedule.at(torch.tensor(round(share * 1000) - 1))]
    ]
    assert float(noise[1] / noise[0]) == pytest.approx(1, rel=0.01)


def test_more_strength_goes_through_more_of_the_times() -> None:
    ours = Schedule.from_config({"beta_schedule": "squaredcos_cap_v2"})
    shares = [ours.time_fraction(k / 50) for k in range(1, 51)]
    assert shares == sorted(shares)
    assert shares[24] == pytest.approx(0.646, abs=0.005)  # arccos(0.5266) / (pi / 2), by hand
    assert shares[-1] == 1
