"""Sampling algorithms. A sampler does not call the network itself: it yields requests to denoise.

A sampler is a generator. It yields a `Question(x, level)`, is sent back the `Answer`, what is clean in x, and
its return value is the final x. What it must remember lives in local variables, so nothing is ever set or
reset. Whoever owns the loop answers: `run_sampler` one question at a time, a test with the closed-form
denoiser of a Gaussian.

Everything is written in (alpha, sigma) of x = alpha x_0 + sigma noise, not in k-diffusion's quotient
s = sigma / alpha, so that walks may start at alpha = 0 (zero terminal SNR). One update serves nearly all:

    x' = alpha' clean + sqrt(sigma'^2 - noise_std^2) noise_hat + noise_std z            (DDIM eq. 12)

Euler in s is this update with noise_std 0; DDPM's posterior and Euler ancestral are it with the full
noise_std; DPM-Solver++(2M), ODE and SDE, are these two with a `clean` extrapolated from the last two answers.
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


class Question(NamedTuple):
    """What is clean in x at this level?

    x: [n c h w].
    level: of x.
    trial: looks ahead and does not count as a step.
    """

    x: Tensor
    level: Level
    trial: bool = False


class Answer(NamedTuple):
    """The clean estimate of x, and how sure it is.

    clean: [n c h w].
    share: of the variance, as in `variance.Variance.halves`.
    """

    clean: Tensor
    share: Tensor | None = None


Walk = Generator[Question, Answer, Tensor]
"""Yields questions, is sent answers, returns the final x [n c h w]."""

Walker = Callable[[Tensor, Sequence[Level], Seeds], Walk]
"""(x at the first level [n c h w], levels, source of fresh noise) -> a walk along the levels."""

W = TypeVar("W", bound=Walker)


@dataclass(frozen=True)
class Sampler:
    """A walk under the name by which people ask for it.

    walk: makes a walk.
    title: the name in A1111's interface and metadata.
    spacing: what users of this name expect; None for the model's own.
    clean_end: None to end where the model's config says, as diffusers does with DDIM alone.
    """

    walk: Walker
    title: str
    spacing: str | None = None
    clean_end: bool | None = True


SAMPLERS: Registry[Sampler] = Registry("sampler", BadBrief)


def sampler(
    name: str, title: str, spacing: str | None = None, clean_end: bool | None = True
) -> Callable[[W], W]:
    """Decorator: the walk below is a sampler called `name`. One walk may have several names."""

    def add(walk: W) -> W:
        SAMPLERS.register(name)(Sampler(walk, title, spacing, clean_end))
        return walk

    return add


def run_sampler(
    walk: Walk, denoise: Callable[[Tensor, Level], Tensor | Answer]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Answer one question at a time with `denoise`: a clean estimate, or more. Stop iterating to cancel.

    Yields (x after the step, the clean estimate it was made from), both [n c h w], once per finished step;
    the last x is the result.
    """
    question = next(walk)
    while True:
        denoised = denoise(question.x, question.level)
        answer = denoised if isinstance(denoised, Answer) else Answer(denoised)
        try:
            question = walk.send(answer)
        except StopIteration as stop:
            yield stop.value, answer.clean
            return
        if not question.trial:
            yield question.x, answer.clean


def step(
    x: Tensor, clean: Tensor, now: Level, then: Level, noise_std: float = 0.0, z: Tensor | None = None
) -> Tensor:
    """The update that all share, DDIM (arXiv 2010.02502) eq. 12: from `now` to `then`.

    x, clean: [n c h w].
    noise_std: the standard deviation of the fresh noise, in [0, then.sigma].
    z: the fresh noise [n c h w], standard normal; None adds none.
    """
    noise = (x - now.alpha * clean) / now.sigma
    moved = then.alpha * clean + math.sqrt(max(then.sigma**2 - noise_std**2, 0.0)) * noise
    return moved if z is None else moved + noise_std * z


def ancestral_noise(now: Level, then: Level, eta: float = 1.0) -> float:
    """The standard deviation of fresh noise, DDIM eq. 16.

    eta: 0 is DDIM; 1 is the deviation of DDPM's posterior (arXiv 2006.11239 eq. 7).
    """
    variance = (then.sigma / now.sigma) ** 2 * (1 - (now.alpha / then.alpha) ** 2)
    return eta * math.sqrt(max(variance, 0.0))


def _fresh(x: Tensor, noise_std: float, seeds: Seeds) -> Tensor | None:
    """Noise like x [n c h w] from each picture's own generator; None for a deviation of 0."""
    return seeds.normal(*x.shape[1:]).to(x) if noise_std > 0 else None


@sampler("ddim", title="DDIM", clean_end=None)
@sampler("euler", title="Euler", spacing="linspace")
def ddim(x: Tensor, levels: Sequence[Level], seeds: Seeds, eta: float = 0.0) -> Walk:
    """Song, Meng, Ermon, arXiv 2010.02502, eq. 12. At eta = 0 it is Euler's method in s = sigma / alpha."""
    for now, then in pairwise(levels):
        clean = (yield Question(x, now)).clean
        noise_std = ancestral_noise(now, then, eta)
        x = step(x, clean, now, then, noise_std, _fresh(x, noise_std, seeds))
    return x


@sampler("euler_ancestral", title="Euler a", spacing="linspace")
def euler_ancestral(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> Walk:
    """DDIM at eta = 1: `noise_std` is k-diffusion's sigma_up, and what is left of sigma' its sigma_down.

    Both are divided by alpha'.
    """
    return ddim(x, levels, seeds, eta=1.0)


@sampler("lcm", title="LCM", spacing="trailing")
def lcm(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> Walk:
    """Multistep consistency sampling, Song et al., arXiv 2303.01469, algorithm 1 (LCM: arXiv 2310.04378).

    For networks distilled to predict the final sample directly: nothing of the noise is kept, and new noise
    is added to the prediction, up to the next level.
    """
    for now, then in pairwise(levels):
        clean = (yield Question(x, now)).clean
        x = step(x, clean, now, then, then.sigma, _fresh(x, then.sigma, seeds))
    return x


@sampler("ddpm", title="DDPM")
def ddpm(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> Walk:
    """Ho, Jain, Abbeel, arXiv 2006.11239, algorithm 2 with the posterior of eq. 6-7.

    With beta-tilde for the variance it is DDIM at eta = 1; a variance that the network predicts is used
    instead. Steps may skip times
    (arXiv 2102.09672 section 4).
    """
    for now, then in pairwise(levels):
        clean, share = yield Question(x, now)
        noise_std = ancestral_noise(now, then)
        x = step(x, clean, now, then, noise_std)
        noise = _fresh(x, noise_std, seeds)
        if noise is not None:
            x = x + (noise_std if share is None else deviation(now, then, share)) * noise
    return x


def _gap(now: Level, then: Level) -> float:
    """The h = lambda' - lambda of the DPM solvers; infinite from pure noise and to the clean end."""
    if now.alpha == 0 or then.sigma == 0:
        return math.inf
    return then.half_log_snr - now.half_log_snr


@sampler("heun", title="Heun", spacing="karras")
def heun(x: Tensor, levels: Sequence[Level], _seeds: Seeds) -> Walk:
    """Karras et al., arXiv 2206.00364, algorithm 1: Euler in s, then the mean of the slopes at both ends.

    The slope is (x/alpha - D) / s. With D and D' the answers at both ends, the mean adds to Euler's x'

        alpha'/2 (s/s' - 1) (D' - D),    s/s' = e^h.

    First order where h is infinite. Asks twice per step.
    """
    for now, then in pairwise(levels):
        clean = (yield Question(x, now)).clean
        x = step(x, clean, now, then)
        gap = _gap(now, then)
        if math.isfinite(gap):
            ahead = (yield Question(x, then, trial=True)).clean
            x = x + then.alpha / 2 * math.expm1(gap) * (ahead - clean)
    return x


class _Past(NamedTuple):
    """A clean estimate [n c h w], and the gap of the step that was made from it."""

    clean: Tensor
    gap: float


@sampler("dpmpp_2m", title="DPM++ 2M")
@sampler("dpmpp_2m_karras", title="DPM++ 2M Karras", spacing="karras")
def dpmpp_2m(x: Tensor, levels: Sequence[Level], seeds: Seeds, eta: float = 0.0) -> Walk:
    """DPM-Solver++(2M), Lu et al., arXiv 2211.01095, algorithm 2; at eta = 1 SDE-DPM-Solver++(2M).

    Both are `step` with the clean estimate extrapolated to the middle of the interval in lambda.
    """
    last = None
    for now, then in pairwise(levels):
        clean = (yield Question(x, now)).clean
        answer, noise_std = _Past(clean, _gap(now, then)), ancestral_noise(now, then, eta)
        x = step(x, _midway(answer, last), now, then, noise_std, _fresh(x, noise_std, seeds))
        last = answer
    return x


@sampler("dpmpp_2m_sde", title="DPM++ 2M SDE")
@sampler("dpmpp_2m_sde_karras", title="DPM++ 2M SDE Karras", spacing="karras")
def dpmpp_2m_sde(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> Walk:
    """SDE-DPM-Solver++(2M), arXiv 2211.01095: DDPM's step with an extrapolated clean estimate."""
    return dpmpp_2m(x, levels, seeds, eta=1.0)


def _midway(answer: _Past, last: _Past | None) -> Tensor:
    """D + 1/(2r) (D - D_last) with r = h_last / h (2211.01095 algorithm 2).

    Just D in the first step and in the one to the clean end, where h is infinite; and after a step from
    pure noise, where h_last is.
    """
    if last is None or math.isinf(answer.gap):
        return answer.clean
    return answer.clean + answer.gap / (2 * last.gap) * (answer.clean - last.clean)


class _Stride(NamedTuple):
    """A step of UniPC that may be mended: where it began, from which answer, and the answer before that."""

    x: Tensor
    now: Level
    answer: _Past
    last: _Past | None


@sampler("unipc", title="UniPC")
def unipc(x: Tensor, levels: Sequence[Level], _seeds: Seeds) -> Walk:
    """UniPC-2, Zhao et al., arXiv 2302.04867, with B_2(h) = e^h - 1, on clean estimates.

    The predictor UniP-2 is DPM-Solver++(2M). The corrector UniC-2 corrects each step with the next
    network output, at no extra network call.
    """
    stride = None
    for now, then in pairwise(levels):
        clean = (yield Question(x, now)).clean
        if stride is not None:
            x = _unic(stride, clean, now)
        answer, last = _Past(clean, _gap(now, then)), stride.answer if stride else None
        stride = _Stride(x, now, answer, last)
        x = step(x, _midway(answer, last), now, then)
    return x


def _unic(stride: _Stride, ahead: Tensor, then: Level) -> Tensor:
    """UniC (arXiv 2302.04867 section 3.1): the stride again, now with D', the answer at its end.

        x' = step(x, D) + alpha' (1 - e^-h) (rho_1 / r (D_last - D) + rho_2 (D' - D)),    r = -h_last / h

    where rho_1 + rho_2 = b_1 and r rho_1 + rho_2 = b_2. Without a D_last, rho_2 = 1/2.
    """
    (clean, h), last = stride.answer, stride.last
    change = (ahead - clean) / 2
    if last is not None:
        b_1, b_2 = _moments(h)
        r = -last.gap / h
        rho_1 = (b_1 - b_2) / (1 - r)
        change = rho_1 / r * (last.clean - clean) + (b_1 - rho_1) * (ahead - clean)
    return step(stride.x, clean, stride.now, then) - then.alpha * math.expm1(-h) * change


def _moments(h: float) -> tuple[float, float]:
    """UniPC's b_1 and b_2 for B_2: the means of u and u^2 over u in [0, 1] with the weight e^(h u)."""
    first = 1 / -math.expm1(-h) - 1 / h
    return first, 1 / -math.expm1(-h) - 2 / h * first
