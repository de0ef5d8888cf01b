"""Our tables and spacings against those of diffusers' schedulers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from diffusers.training_utils import compute_snr

from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import BETAS, Schedule

# theirs turns torch tensors into numpy arrays in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SD1: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CONFIGS = {
    "linear": {},
    "sd1": SD1,
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "zero": {**SD1, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_tables(config: dict[Any, Any]) -> None:
    """Measured: 5e-7 absolute, 4e-5 relative at the end: theirs multiplies 1000 float32 numbers."""
    ours, theirs = Schedule.from_config(config).alpha_bar, DDIMScheduler(**config).alphas_cumprod.double()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=3e-6)
    tail = theirs > 1e-12  # the float32 table rescaled to zero SNR ends in rounding, not in 0
    torch.testing.assert_close(ours[tail], theirs[tail], rtol=2e-4, atol=0)


@pytest.mark.parametrize("name", list(BETAS))
def test_betas(name: str) -> None:
    """Measured: 3e-8."""
    theirs = DDIMScheduler(beta_schedule=name).betas.double()
    torch.testing.assert_close(BETAS[name](1000, 1e-4, 0.02), theirs, rtol=0, atol=1e-7)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [2, 5, 10, 30, 50, 333, 999])
@pytest.mark.parametrize("offset", [0, 1])
def test_times(spacing: str, steps: int, offset: int) -> None:
    config = {**SD1, "timestep_spacing": spacing, "steps_offset": offset}
    theirs = DDIMScheduler(**config)
    theirs.set_timesteps(steps)
    ours = Schedule.from_config(config).levels(steps)
    assert [level.t for level in ours[:-1]] == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", [5, 20])
def test_karras(steps: int) -> None:
    """Measured: 1.3e-5 relative in sigma / alpha, 1.2e-3 in time, both from their float32 table."""
    theirs = EulerDiscreteScheduler(**SD1, use_karras_sigmas=True)
    theirs.set_timesteps(steps)
    ours = Schedule.from_config(SD1).levels(steps, "karras")
    s = torch.tensor([level.sigma / level.alpha for level in ours])
    torch.testing.assert_close(s, theirs.sigmas, rtol=7e-5, atol=0)
    t = torch.tensor([level.t for level in ours[:-1]])
    torch.testing.assert_close(t, theirs.timesteps.float(), rtol=0, atol=6e-3)


def test_last_level_of_ddim_in_stable_diffusion() -> None:
    theirs = DDIMScheduler(**SD1, set_alpha_to_one=False)
    last = Schedule.from_config({**SD1, "set_alpha_to_one": False}).levels(50)[-1]
    assert last.alpha**2 == pytest.approx(theirs.final_alpha_cumprod.item(), abs=1e-7)


def test_zero_terminal_snr_is_exact_where_theirs_is_clipped() -> None:
    theirs = DPMSolverMultistepScheduler(**CONFIGS["zero"])
    assert theirs.alphas_cumprod[-1] == 2**-24
    assert Schedule.from_config(CONFIGS["zero"]).alpha_bar[-1] == 0


@pytest.mark.parametrize("prediction", list(Prediction))
def test_min_snr_weights(prediction: Prediction) -> None:
    """Their snr, and the formulas of their training example. Measured: 2.6e-5 relative, from the table."""
    scheduler, t = DDIMScheduler(**SD1), torch.arange(1000)
    snr = compute_snr(scheduler, t)
    capped = snr.clamp(max=5)
    expected = {"epsilon": capped / snr, "v_prediction": capped / (snr + 1), "sample": capped}[prediction]
    alpha, sigma = Schedule.from_config(SD1).at(t)
    torch.testing.assert_close(
        prediction.min_snr_weight((alpha / sigma) ** 2), expected, rtol=2e-4, atol=1e-6
    )
