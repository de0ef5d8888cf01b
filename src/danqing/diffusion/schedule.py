"""Noise schedules: alpha_t and sigma_t of every time in x_t = alpha_t x_0 + sigma_t noise.

Everything is variance preserving, alpha^2 + sigma^2 = 1, and computed in float64. Samplers get a list of
levels and never the table, so zero terminal SNR (alpha = 0) is an ordinary level, and no sampler must compute
the previous time from the number of steps.

Papers: DDPM arXiv 2006.11239; improved DDPM (cosine) arXiv 2102.09672; latent diffusion arXiv 2112.10752;
zero terminal SNR arXiv 2305.08891; Karras et al. arXiv 2206.00364.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from danqing.core.errors import BadBrief, BadWeights
from danqing.core.registry import Registry

_END_TIME = -1.0  # the time of the noise-free level, one before the table; no network is called with it


@dataclass(frozen=True)
class Level:
    """One noise level: x = alpha x_0 + sigma noise.

    alpha, sigma: in [0, 1], with alpha^2 + sigma^2 = 1.
    t: the time that the network is called with, in [0, T).
    """

    alpha: float
    sigma: float
    t: float

    @property
    def log_snr(self) -> float:
        """ln(alpha^2 / sigma^2): -inf at pure noise, +inf without noise."""
        if self.alpha == 0:
            return -math.inf
        if self.sigma == 0:
            return math.inf
        return 2 * (math.log(self.alpha) - math.log(self.sigma))

    @property
    def half_log_snr(self) -> float:
        """The lambda = ln(alpha / sigma), time variable of DPM solvers (arXiv 2206.00927 section 3.1)."""
        return self.log_snr / 2


NO_NOISE = Level(alpha=1.0, sigma=0.0, t=_END_TIME)


BETAS: Registry[Callable[[int, float, float], Tensor]] = Registry("beta_schedule", BadWeights)
"""`beta_schedule` of a diffusers config -> function of (T, beta_start, beta_end) giving float64 betas [T]."""


@BETAS.register("linear")
def _linear(count: int, start: float, end: float) -> Tensor:
    """DDPM section 4: beta grows linearly."""
    return torch.linspace(start, end, count, dtype=torch.float64)


@BETAS.register("scaled_linear")
def _scaled_linear(count: int, start: float, end: float) -> Tensor:
    """Latent diffusion: the square root of beta grows linearly."""
    return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2


@BETAS.register("squaredcos_cap_v2")
def _cosine(count: int, _start: float, _end: float) -> Tensor:
    """Improved DDPM eq. 17: alpha_bar(t) = cos^2((t/T + 0.008) / 1.008 * pi/2), with beta at most 0.999."""
    time = torch.arange(count + 1, dtype=torch.float64) / count
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def _zero_terminal(alpha_bar: Tensor) -> Tensor:
    """Shift sqrt(alpha_bar) to end at 0, then scale it to keep its first entry (2305.08891 algorithm 1)."""
    root = alpha_bar.sqrt()
    first, last = root[0].item(), root[-1].item()
    root = (root - last) * first / (first - last)
    root[-1] = 0.0  # exactly 0, without a rounding error
    return root**2


SPACINGS: Registry[Callable[[Schedule, int], list[Level]]] = Registry("timestep_spacing", BadWeights)
"""Spacing name -> function of (schedule, steps) giving the levels of the network calls, noisiest first."""


@SPACINGS.register("leading")
def _leading(schedule: Schedule, steps: int) -> list[Level]:
    """DDIM: every (T // steps)-th time from `steps_offset` up; never reaches the noisiest times."""
    stride = len(schedule) // steps
    return schedule.levels_at(i * stride + schedule.steps_offset for i in reversed(range(steps)))


@SPACINGS.register("trailing")
def _trailing(schedule: Schedule, steps: int) -> list[Level]:
    """Even spacing that includes the last time (2305.08891 table 2). Zero terminal SNR needs it."""
    last = len(schedule)
    return schedule.levels_at(round(last - i * last / steps) - 1 for i in range(steps))


@SPACINGS.register("linspace")
def _linspace(schedule: Schedule, steps: int) -> list[Level]:
    """Even spacing from the last time to the first, both included (2102.09672 section 4), as in A1111."""
    last = len(schedule) - 1
    return schedule.levels_at(round(last - i * last / max(steps - 1, 1)) for i in range(steps))


@SPACINGS.register("karras")
def _karras(schedule: Schedule, steps: int) -> list[Level]:
    """Karras et al. eq. 5 with rho = 7, in s = sigma / alpha; s is mapped back to time by interpolating ln s.

    The ramp starts at s = e^5.1 at most. Higher s (cosine schedules, zero terminal SNR) are nearly pure
    noise, and a ramp without a limit would spend most steps there. DeepFloyd IF clips at the same value. The
    first level is still the last of the table, because the initial noise belongs to it.
    """
    rho, noisiest = 7, 5.1
    table = schedule.levels_at(range(len(schedule)))
    log_s = [-level.half_log_snr for level in table]
    high, low = math.exp(min(log_s[-1], noisiest)) ** (1 / rho), math.exp(log_s[0]) ** (1 / rho)
    ramp = [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)]
    return [table[-1]] + [_level_of(s, _interpolate(math.log(s), log_s)) for s in ramp[1:]]


def _level_of(s: float, t: float) -> Level:
    """The variance-preserving level with sigma / alpha = s."""
    alpha = 1 / math.hypot(1, s)
    return Level(alpha=alpha, sigma=s * alpha, t=t)


def _interpolate(value: float, table: list[float]) -> float:
    """The fractional index of `value` in the rising `table`; values beyond its ends give the end."""
    above = min(bisect_left(table, value), len(table) - 1)
    if above == 0:
        return 0.0
    low, high = table[above - 1], table[above]
    if math.isinf(high):  # zero terminal SNR: nothing lies between the last finite entry and pure noise
        return float(above - 1)
    return above - 1 + min((value - low) / (high - low), 1.0)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise levels that a network was trained on.

    alpha_bar: alpha^2 of every time, float64 [T], falling from near 1 at t = 0 to near or exactly 0 at T - 1.
    spacing: the spacing of times for samplers without one of their own.
    steps_offset: added to the times of "leading" spacing.
    set_alpha_to_one: whether the last level of DDIM has alpha = 1; otherwise it has alpha_bar[0], as in
        Stable Diffusion 1.
    """

    alpha_bar: Tensor
    spacing: str = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Schedule:
        """The schedule of a diffusers scheduler config, with the defaults of its `DDIMScheduler`.

        Raises:
            BadWeights: an unknown `beta_schedule` or spacing, or zero terminal SNR with epsilon prediction,
                from which x_0 cannot be computed at pure noise (arXiv 2305.08891 section 3.2).
        """
        make = BETAS[config.get("beta_schedule", "linear")]
        betas = make(
            config.get("num_train_timesteps", 1000),
            config.get("beta_start", 1e-4),
            config.get("beta_end", 0.02),
        )
        if config.get("trained_betas") is not None:
            betas = torch.tensor(config["trained_betas"], dtype=torch.float64)
        alpha_bar = (1 - betas).cumprod(0)
        if config.get("rescale_betas_zero_snr", False):
            if config.get("prediction_type", "epsilon") == "epsilon":
                raise BadWeights(
                    "scheduler: rescale_betas_zero_snr needs a network that predicts v or the sample, "
                    "not epsilon: set rescale_betas_zero_snr to false or correct prediction_type"
                )
            alpha_bar = _zero_terminal(alpha_bar)
        spacing = config.get("timestep_spacing", "leading")
        SPACINGS[spacing]  # raise for an unknown name now, not at the first picture
        return cls(
            alpha_bar=alpha_bar,
            spacing=spacing,
            steps_offset=config.get("steps_offset", 0),
            set_alpha_to_one=config.get("set_alpha_to_one", True),
        )

    def __len__(self) -> int:
        return self.alpha_bar.shape[0]

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma, float32 [n] each, of times t, int64 [n] in [0, T). For training."""
        alpha_bar = self.alpha_bar.to(t.device)[t]
        return alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()

    def time_fraction(self, strength: float) -> float:
        """The fraction of all times, in (0, 1], that a redraw with `strength` in (0, 1] samples.

        A strength adds the same amount of noise as in Stable Diffusion 1, so the time with that noise is
        looked up in this schedule. With Stable Diffusion 1's schedule, the fraction is the strength itself; a
        cosine schedule has less noise in its middle. A strength of 1 is always all times.
        """
        if strength == 1:
            return 1.0
        theirs, ours = _noises(_reference()), _noises(self)
        noise = np.interp(strength * (len(theirs) - 1), np.arange(len(theirs)), theirs)
        return float(np.interp(noise, ours, np.arange(len(ours)))) / (len(ours) - 1)

    def times_between(self, start: float, end: float) -> tuple[float, float]:
        """The interval of times for two fractions of sampling: 0 is pure noise, 1 the finished picture.

        A time is in the interval if it is at least the first value and below the second. With evenly spaced
        times these are the steps from `start` to `end` of all, as in the guiders of diffusers. A fraction
        means the same noise for any number of steps, as in ComfyUI.
        """
        count = len(self)
        return round(count * (1 - end), 6), round(count * (1 - start), 6)

    def levels_at(self, times: Iterable[int]) -> list[Level]:
        """The levels of the given times.

        Raises:
            BadBrief: a time lies outside the table.
        """
        levels = []
        for t in times:
            if not 0 <= t < len(self):
                raise BadBrief(
                    f"time {t} is outside [0, {len(self) - 1}]: use fewer steps or another sampler "
                    f"(spacing {self.spacing!r}, steps_offset {self.steps_offset})"
                )
            alpha_bar = self.alpha_bar[t].item()
            levels.append(Level(alpha=math.sqrt(alpha_bar), sigma=math.sqrt(1 - alpha_bar), t=float(t)))
        return levels

    def level_at(self, t: float) -> Level:
        """The level at a time in [0, T - 1]; alpha is interpolated linearly between times of the table."""
        below, above = math.floor(t), math.ceil(t)
        low, high = (math.sqrt(self.alpha_bar[k].item()) for k in (below, above))
        alpha = low + (high - low) * (t - below)
        return Level(alpha=alpha, sigma=math.sqrt(1 - alpha**2), t=t)

    def time_of_step(self, steps: int, k: float) -> float:
        """The time of step k in [0, steps - 1] of `steps` steps; k may lie between two steps."""
        times = [level.t for level in self.levels(steps)[:-1]]
        return round(float(np.interp(k, np.arange(steps), times)), 6)

    def levels(
        self, steps: int, spacing: str | None = None, set_alpha_to_one: bool | None = None
    ) -> list[Level]:
        """The `steps + 1` levels of a sampler, noisiest first; each step goes from one to the next.

        The last level is without noise (alpha 1, sigma 0), or that of t = 0 where `set_alpha_to_one` is
        False. None means the value of the schedule.

        Raises:
            BadBrief: `steps` is below 1 or above T.
        """
        if not 1 <= steps <= len(self):
            raise BadBrief(f"steps {steps}: choose from 1 to {len(self)}")
        levels = SPACINGS[spacing or self.spacing](self, steps)
        without_noise = self.set_alpha_to_one if set_alpha_to_one is None else set_alpha_to_one
        end = NO_NOISE if without_noise else replace(self.levels_at([0])[0], t=_END_TIME)
        return [*levels, end]


@cache
def _reference() -> Schedule:
    """Stable Diffusion 1's schedule, which defines strengths; see `Schedule.time_fraction`."""
    return Schedule.from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})


def _noises(schedule: Schedule) -> NDArray[np.float64]:
    """The sigma / alpha of no noise and of every time, rising, [T + 1]; pure noise counts as 1e6."""
    signal = schedule.alpha_bar.clamp(min=1e-12)
    return np.concatenate([[0.0], ((1 - schedule.alpha_bar) / signal).sqrt().numpy()])
