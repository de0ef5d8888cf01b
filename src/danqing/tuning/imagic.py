"""Edits one picture by a prompt, without a mask (Imagic, Kawar et al., arXiv 2210.09276).

(a) Optimise the token states of the prompt until the model reconstructs the picture from them; (b) fine-tune
the model at those states; (c) paint from interpolations between them and the prompt's states (section 3.2,
eq. 3). Differences from the paper: (b) trains a low-rank adapter, so that the model itself stays as it was,
and the adapter's weight falls towards the prompt, because at full weight a small network paints the picture
whatever the prompt. Every step averages several times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief, NotFinite
from danqing.core.painter import Conditioning
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.diffusion.loss import denoising_error, stratified_times
from danqing.diffusion.painter import DiffusionPainter
from danqing.tuning.adapter import Adapter, attach
from danqing.tuning.dreambooth import freeze_networks
from danqing.tuning.lora import ATTENTION, RESNETS, learning_rate_share, new_factors

Loss = Callable[[Generator], Tensor]
ETA_MAX = 1.5  # larger values give broken pictures


@dataclass(frozen=True)
class ImagicOptions:
    """Steps and learning rates of (a) and (b).

    words_steps: number of steps of (a).
    words_lr: learning rate of (a).
    model_steps: number of steps of (b).
    model_lr: learning rate of (b), which is multiplied by `learning_rate_share`.
    rank: rank of the adapter.
    convs: whether the adapter changes convolutions too.
    times: number of noise levels averaged in each step, at least 4.
    seed: seed of times and noise.
    """

    words_steps: int = 100
    words_lr: float = 1e-2
    model_steps: int = 200
    model_lr: float = 1e-3
    rank: int = 8
    convs: bool = True
    times: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Edit:
    """A picture that is ready to be painted closer to the prompt.

    target: the prompt's conditioning.
    optimised: token states [1 l d] that reconstruct the picture while `adapter` is attached.
    adapter: the result of (b).
    errors: the mean errors of the last steps of (a) and of (b); if the second is large, the picture is badly
        reconstructed.
    """

    target: Conditioning
    optimised: Tensor
    adapter: Adapter
    errors: tuple[float, float]

    @property
    def distance(self) -> float:
        """How far (a) moved the token states, relative to their norm.

        If it is large, the prompt's meaning is lost.
        """
        moved, length = (self.optimised - self.target.tokens).norm(), self.target.tokens.norm()
        return float(moved / length)

    def weight(self, eta: float) -> float:
        """The weight of `adapter` at `eta`: 1 at the picture (0), 0 from the prompt (1) on."""
        return max(0.0, 1 - eta)

    def conditioning(self, eta: float) -> Conditioning:
        """The interpolation eta e_target + (1 - eta) e_optimised.

        eta: 0 gives the picture, 1 the prompt; typical edits are at 0.6 to 0.8.

        Raises:
            BadBrief: eta lies outside [0, 1.5].
        """
        if not 0 <= eta <= ETA_MAX:
            raise BadBrief(f"eta {eta:g} is outside [0, {ETA_MAX}]: 0 is the picture itself, 1 the sentence")
        return replace(self.target, tokens=eta * self.target.tokens + (1 - eta) * self.optimised)


def imagic(
    painter: DiffusionPainter,
    picture: Tensor,
    brief: ResolvedBrief,
    options: ImagicOptions | None = None,
    progress: ProgressCallback = no_progress,
) -> Edit:
    """Prepare to edit a picture [1 c h w] in [-1, 1] towards the prompt of a resolved brief.

    Paint with `attach(painter, {edit.adapter: edit.weight(eta)})` and `edit.conditioning(eta)`. After the
    call, even after an exception, the painter is bit-identical to before.

    progress: an exception that it raises stops the preparation.

    Raises:
        NotFinite: a loss is NaN or infinite.
    """
    options = options or ImagicOptions()
    target, latents = painter.condition(brief), painter.vae.encode(picture)
    optimised, first = reconstructing_words(painter, latents, target, options, progress)
    adapter, second = reconstructing_model(
        painter, latents, replace(target, tokens=optimised), options, progress
    )
    return Edit(target, optimised, adapter, (first, second))


def reconstructing_words(
    painter: DiffusionPainter,
    latents: Tensor,
    target: Conditioning,
    options: ImagicOptions,
    progress: ProgressCallback = no_progress,
) -> tuple[Tensor, float]:
    """Step (a): token states [1 l d] near `target` that best denoise latents [1 c h w]; and their error."""
    tokens = target.tokens.detach().clone().requires_grad_(True)

    def loss(rng: Generator) -> Tensor:
        return _reconstruction(painter, latents, replace(target, tokens=tokens), options.times, rng)

    descent = _Descent(options.words_steps, options.words_lr, options.seed, "words", progress)
    with freeze_networks(painter):
        error = descent([tokens], loss)
    return tokens.detach(), error


def reconstructing_model(
    painter: DiffusionPainter,
    latents: Tensor,
    words: Conditioning,
    options: ImagicOptions,
    progress: ProgressCallback = no_progress,
) -> tuple[Adapter, float]:
    """Step (b): an adapter that best denoises latents [1 c h w] at `words`; and its error."""
    endings = {"unet": ATTENTION + (RESNETS if options.convs else ())}
    adapter = Adapter("imagic", factors=new_factors(painter.modules, endings, options.rank, options.seed))

    def loss(rng: Generator) -> Tensor:
        return _reconstruction(painter, latents, words, options.times, rng)

    lr = options.model_lr * learning_rate_share(adapter.factors)
    descent = _Descent(options.model_steps, lr, options.seed + 1, "model", progress)
    with freeze_networks(painter), attach(painter, {adapter: 1.0}):
        error = descent(adapter.tensors(), loss)
    return adapter.cpu_copy(), error


def _reconstruction(
    painter: DiffusionPainter, latents: Tensor, words: Conditioning, times: int, rng: Generator
) -> Tensor:
    """The paper's eq. 2: the error of denoising one picture, averaged over `times` noise levels."""
    t = stratified_times(times, len(painter.schedule), rng).to(latents.device)
    noise = torch.randn(times, *latents.shape[1:], generator=rng).to(latents)
    many = replace(words, negative=None).expand(times)
    return denoising_error(painter, latents.expand_as(noise), many, t, noise).mean()


@dataclass(frozen=True)
class _Descent:
    """Adam with a learning rate that falls to zero along half a cosine."""

    steps: int
    lr: float
    seed: int
    what: str
    progress: ProgressCallback

    def __call__(self, learned: Sequence[Tensor], loss: Loss) -> float:
        """Minimise the loss. Returns the mean loss of the last tenth of the steps.

        Raises:
            NotFinite: the loss is NaN or infinite.
        """
        optimiser, rng, losses = torch.optim.Adam(learned, lr=self.lr), Generator().manual_seed(self.seed), []
        for step in range(self.steps):
            optimiser.param_groups[0]["lr"] = self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2
            error = loss(rng)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(error)
            optimiser.step()
            losses.append(float(error.detach()))
            if not math.isfinite(losses[-1]):
                raise NotFinite(f"{self.what}: loss {losses[-1]} at step {step}: use a lower learning rate")
            if (step + 1) % 10 == 0:
                line = f"{self.what}: step {step + 1}/{self.steps}  loss {losses[-1]:.4f}"
                self.progress(Progress(step + 1, self.steps, line))
        last = losses[-max(1, self.steps // 10) :]
        return sum(last) / max(1, len(last))
