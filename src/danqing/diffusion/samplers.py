"""Sampling algorithms. A sampler does not call the network itself: it yields calls of the denoiser.

A sampler is a generator. It yields a `DenoiserCall(x, level)`, is sent the `DenoiserOutput`, and returns the
final x. Its state is in local variables, so there is nothing to reset between runs. The caller answers the
calls: `run_sampler` with the network, a test with the closed-form denoiser of a Gaussian.

Everything is written in (alpha, sigma) of x = alpha x_0 + sigma noise, not in k-diffusion's quotient
s = sigma / alpha, so that sampling may start at alpha = 0 (zero terminal SNR). Nearly all samplers use one
update:

    x' = alpha' x0 + sqrt(sigma'^2 - noise_std^2) noise_hat + noise_std z            (DDIM eq. 12)

Euler in s is this update with noise_std 0. DDPM's posterior and Euler ancestral are this update with the full
noise_std. DPM-Solver++(2M), as ODE and as SDE, uses these two with an x0 extrapolated from two outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

from torch import Tensor

from danqing.core.errors import BadBrief
from danqing.core.registry import Registry
from danqing.core.seeds import Seeds
from danqing.diffusion.schedule import Level
from danqing.diffusion.variance import deviation


class DenoiserCall(NamedTuple):
    """One call of the denoiser.

    x: the noisy state [n c h w].
    level: the noise level of x.
    trial: whether the call is an extra evaluation within a step, as Heun's second one.
    """

    x: Tensor
    level: Level
    trial: bool = False


class DenoiserOutput(NamedTuple):
    """The output of the denoiser.

    x0: the estimate of the finished picture [n c h w].
    predicted_variance: as in `variance.Variance.split_output`.
    """

    x0: Tensor
    predicted_variance: Tensor | None = None


DenoiserCalls = Generator[DenoiserCall, DenoiserOutput, Tensor]
"""Yields calls of the denoiser, is sent its outputs, returns the final x [n c h w]."""

SamplerFunction = Callable[[Tensor, Sequence[Level], Seeds], DenoiserCalls]
"""(x at the first level [n c h w], levels, source of fresh noise) -> the calls along the levels."""

F = TypeVar("F", bound=SamplerFunction)


@dataclass(frozen=True)
class Sampler:
    """A sampler that users choose by name.

    sample: the sampling function.
    title: the name in A1111's interface and metadata.
    spacing: the spacing of times that belongs to this name; None for that of the model.
    set_alpha_to_one: whether the last level is without noise; None for the value of the model's config, which
        diffusers uses for DDIM only.
    """

    sample: SamplerFunction
    title: str
    spacing: str | None = None
    set_alpha_to_one: bool | None = True


SAMPLERS: Registry[Sampler] = Registry("sampler", BadBrief)


def sampler(
    name: str, title: str, spacing: str | None = None, set_alpha_to_one: bool | None = True
) -> Callable[[F], F]:
    """Decorator: register a sampling function as `name`. One function may have several names."""

    def add(sample: F) -> F:
        SAMPLERS.register(name)(Sampler(sample, title, spacing, set_alpha_to_one))
        return sample

    return add


def run_sampler(
    calls: DenoiserCalls, denoise: Callable[[Tensor, Level], Tensor | DenoiserOutput]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run a sampler with `denoise`, which returns x0 or a `DenoiserOutput`. Stop iterating to cancel.

    Yields (x after the step, the x0 it was made from), both [n c h w], once per finished step; the last x is
    the result.
    """
    call = next(calls)
    while True:
        x0 = denoise(call.x, call.level)
        output = x0 if isinstance(x0, DenoiserOutput) else DenoiserOutput(x0)
        try:
            call = calls.send(output)
        except StopIteration as stop:
            yield stop.value, output.x0
            return
        if not call.trial:
            yield call.x, output.x0


def step(
    x: Tensor, x0: Tensor, level: Level, next_level: Level, noise_std: float = 0.0, z: Tensor | None = None
) -> Tensor:
    """The update that samplers share, DDIM (arXiv 2010.02502) eq. 12.

    x, x0: [n c h w].
    level, next_level: the levels of x and of the result.
    noise_std: the standard deviation of the fresh noise, in [0, next_level.sigma].
    z: the fresh noise [n c h w], standard normal; None adds none.
    """
    noise = (x - level.alpha * x0) / level.sigma
    moved = next_level.alpha * x0 + math.sqrt(max(next_level.sigma**2 - noise_std**2, 0.0)) * noise
    return moved if z is None else moved + noise_std * z


def ancestral_noise(level: Level, next_level: Level, eta: float = 1.0) -> float:
    """The standard deviation of the fresh noise, DDIM eq. 16.

    eta: 0 is DDIM, without noise; 1 is the standard deviation of DDPM's posterior (arXiv 2006.11239 eq. 7).
    """
    variance = (next_level.sigma / level.sigma) ** 2 * (1 - (level.alpha / next_level.alpha) ** 2)
    return eta * math.sqrt(max(variance, 0.0))


def _fresh(x: Tensor, noise_std: float, seeds: Seeds) -> Tensor | None:
    """Noise of the shape of x [n c h w] from each picture's own generator; None where `noise_std` is 0."""
    return seeds.normal(*x.shape[1:]).to(x) if noise_std > 0 else None


@sampler("ddim", title="DDIM", set_alpha_to_one=None)
@sampler("euler", title="Euler", spacing="linspace")
def ddim(x: Tensor, levels: Sequence[Level], seeds: Seeds, eta: float = 0.0) -> DenoiserCalls:
    """Song, Meng, Ermon, arXiv 2010.02502, eq. 12. At eta = 0 it is Euler's method in s = sigma / alpha."""
    for level, next_level in pairwise(levels):
        x0 = (yield DenoiserCall(x, level)).x0
        noise_std = ancestral_noise(level, next_level, eta)
        x = step(x, x0, level, next_level, noise_std, _fresh(x, noise_std, seeds))
    return x


@sampler("euler_ancestral", title="Euler a", spacing="linspace")
def euler_ancestral(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> DenoiserCalls:
    """DDIM at eta = 1.

    Divided by alpha', `noise_std` is k-diffusion's sigma_up, and sqrt(sigma'^2 - noise_std^2) its sigma_down.
    """
    return ddim(x, levels, seeds, eta=1.0)


@sampler("lcm", title="LCM", spacing="trailing")
def lcm(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> DenoiserCalls:
    """Multistep consistency sampling, Song et al., arXiv 2303.01469, algorithm 1 (LCM: arXiv 2310.04378).

    For networks that were distilled to predict the final sample directly: each step discards the old noise
    and adds new noise of the next level to the prediction.
    """
    for level, next_level in pairwise(levels):
        x0 = (yield DenoiserCall(x, level)).x0
        x = step(x, x0, level, next_level, next_level.sigma, _fresh(x, next_level.sigma, seeds))
    return x


@sampler("ddpm", title="DDPM")
def ddpm(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> DenoiserCalls:
    """Ho, Jain, Abbeel, arXiv 2006.11239, algorithm 2 with the posterior of eq. 6-7.

    With the variance beta-tilde it is DDIM at eta = 1. A variance that the network predicts replaces it.
    Steps may skip times (arXiv 2102.09672 section 4).
    """
    for level, next_level in pairwise(levels):
        x0, variance = yield DenoiserCall(x, level)
        noise_std = ancestral_noise(level, next_level)
        x = step(x, x0, level, next_level, noise_std)
        noise = _fresh(x, noise_std, seeds)
        if noise is not None:
            x = x + (noise_std if variance is None else deviation(level, next_level, variance)) * noise
    return x


def _gap(level: Level, next_level: Level) -> float:
    """The h = lambda' - lambda of the DPM solvers; infinite where alpha or the next sigma is 0."""
    if level.alpha == 0 or next_level.sigma == 0:
        return math.inf
    return next_level.half_log_snr - level.half_log_snr


@sampler("heun", title="Heun", spacing="karras")
def heun(x: Tensor, levels: Sequence[Level], _seeds: Seeds) -> DenoiserCalls:
    """Karras et al., arXiv 2206.00364, algorithm 1: Euler in s, then the mean of the slopes at both ends.

    The slope is (x/alpha - D) / s. With D and D' the x0 at both ends, the mean slope changes Euler's x' by

        alpha'/2 (s/s' - 1) (D' - D),    s/s' = e^h.

    Where h is infinite, the step is Euler's. Calls the denoiser twice per step.
    """
    for level, next_level in pairwise(levels):
        x0 = (yield DenoiserCall(x, level)).x0
        x = step(x, x0, level, next_level)
        gap = _gap(level, next_level)
        if math.isfinite(gap):
            ahead = (yield DenoiserCall(x, next_level, trial=True)).x0
            x = x + next_level.alpha / 2 * math.expm1(gap) * (ahead - x0)
    return x


class _Estimate(NamedTuple):
    """An x0 [n c h w] and the gap h of the step that used it."""

    x0: Tensor
    gap: float


@sampler("dpmpp_2m", title="DPM++ 2M")
@sampler("dpmpp_2m_karras", title="DPM++ 2M Karras", spacing="karras")
def dpmpp_2m(x: Tensor, levels: Sequence[Level], seeds: Seeds, eta: float = 0.0) -> DenoiserCalls:
    """DPM-Solver++(2M), Lu et al., arXiv 2211.01095, algorithm 2; at eta = 1 SDE-DPM-Solver++(2M).

    Both are `step` with x0 extrapolated to the middle of the interval in lambda.
    """
    last = None
    for level, next_level in pairwise(levels):
        x0 = (yield DenoiserCall(x, level)).x0
        estimate, noise_std = _Estimate(x0, _gap(level, next_level)), ancestral_noise(level, next_level, eta)
        x = step(x, _midway(estimate, last), level, next_level, noise_std, _fresh(x, noise_std, seeds))
        last = estimate
    return x


@sampler("dpmpp_2m_sde", title="DPM++ 2M SDE")
@sampler("dpmpp_2m_sde_karras", title="DPM++ 2M SDE Karras", spacing="karras")
def dpmpp_2m_sde(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> DenoiserCalls:
    """SDE-DPM-Solver++(2M), arXiv 2211.01095: DDPM's step with an extrapolated x0."""
    return dpmpp_2m(x, levels, seeds, eta=1.0)


def _midway(estimate: _Estimate, last: _Estimate | None) -> Tensor:
    """D + 1/(2r) (D - D_last) with r = h_last / h (2211.01095 algorithm 2).

    It is D alone in the first step, in the last step, where h is infinite, and after a step from pure noise,
    where h_last is infinite.
    """
    if last is None or math.isinf(estimate.gap):
        return estimate.x0
    return estimate.x0 + estimate.gap / (2 * last.gap) * (estimate.x0 - last.x0)


class _Step(NamedTuple):
    """A step of UniPC to correct: its start, its estimate of x0, and the estimate of the step before."""

    x: Tensor
    level: Level
    estimate: _Estimate
    last: _Estimate | None


@sampler("unipc", title="UniPC")
def unipc(x: Tensor, levels: Sequence[Level], _seeds: Seeds) -> DenoiserCalls:
    """UniPC-2, Zhao et al., arXiv 2302.04867, with B_2(h) = e^h - 1, on x0.

    The predictor UniP-2 is DPM-Solver++(2M). The corrector UniC-2 corrects each step with the next
    network output, at no extra network call.
    """
    previous = None
    for level, next_level in pairwise(levels):
        x0 = (yield DenoiserCall(x, level)).x0
        if previous is not None:
            x = _unic(previous, x0, level)
        estimate, last = _Estimate(x0, _gap(level, next_level)), previous.estimate if previous else None
        previous = _Step(x, level, estimate, last)
        x = step(x, _midway(estimate, last), level, next_level)
    return x


def _unic(previous: _Step, ahead: Tensor, next_level: Level) -> Tensor:
    """UniC (arXiv 2302.04867 section 3.1): repeat the last step, using also D', the x0 at its end.

        x' = step(x, D) + alpha' (1 - e^-h) (rho_1 / r (D_last - D) + rho_2 (D' - D)),    r = -h_last / h

    where rho_1 + rho_2 = b_1 and r rho_1 + rho_2 = b_2. Where there is no D_last, rho_2 = 1/2.
    """
    (x0, h), last = previous.estimate, previous.last
    change = (ahead - x0) / 2
    if last is not None:
        b_1, b_2 = _moments(h)
        r = -last.gap / h
        rho_1 = (b_1 - b_2) / (1 - r)
        change = rho_1 / r * (last.x0 - x0) + (b_1 - rho_1) * (ahead - x0)
    return step(previous.x, x0, previous.level, next_level) - next_level.alpha * math.expm1(-h) * change


def _moments(h: float) -> tuple[float, float]:
    """UniPC's b_1 and b_2 for B_2: the means of u and u^2 over u in [0, 1], weighted by e^(h u)."""
    first = 1 / -math.expm1(-h) - 1 / h
    return first, 1 / -math.expm1(-h) - 2 / h * first
