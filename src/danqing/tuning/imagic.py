"""Editing one picture by a sentence, without a mask (Imagic, Kawar et al., arXiv 2210.09276).

(a) Move the token states of the sentence until the model reconstructs the picture from them; (b) fine-tune
the model at those states; (c) paint between them and the sentence (section 3.2, eq. 3).
Differs: (b) is a low-rank adapter, so that the model itself stays as it was, and it fades as the sentence
comes: at full weight a small network paints the picture whatever the prompt. Every step averages several
times.
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
ETA_MAX = 1.5  # beyond it pictures fall apart


@dataclass(frozen=True)
class ImagicOptions:
    """Steps and learning rates of (a) and (b), the second times `learning_rate_share`.

    times: noise levels averaged in each step, 4 or more.
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
    """A picture that can be painted anew nearer to the sentence.

    target: the sentence's conditioning. optimised: token states [1 l d] that reconstruct the picture while
    `adapter` is attached. errors: the mean error of the last steps of (a) and of (b); the second is how far
    the picture is from being reconstructed.
    """

    target: Conditioning
    optimised: Tensor
    adapter: Adapter
    errors: tuple[float, float]

    @property
    def distance(self) -> float:
        """How far (a) moved the token states, relative to their length; if far, the sentence is lost."""
        moved, length = (self.optimised - self.target.tokens).norm(), self.target.tokens.norm()
        return float(moved / length)

    def weight(self, eta: float) -> float:
        """The weight of `adapter` at `eta`: 1 at the picture, 0 from the sentence on."""
        return max(0.0, 1 - eta)

    def conditioning(self, eta: float) -> Conditioning:
        """Eta e_target + (1 - eta) e_optimised: 0 is the picture, 1 the sentence; 0.6 to 0.8 are edits.

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
    """Prepare to edit a picture [1 c h w] in [-1, 1] towards the words of a resolved brief.

    Paint with `attach(painter, {edit.adapter: edit.weight(eta)})` and `edit.conditioning(eta)`.

    progress: what it raises stops the preparation; however it ends, the painter is bit-identical afterwards.

    Raises:
        NotFinite: the numbers broke down.
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
    """Step (a): token states [1 l d] near `target` that best denoise latents [1 c h w]; the error."""
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
    """Step (b): an adapter with which latents [1 c h w] are best denoised at `words`; the error."""
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
    """Adam with half a cosine to zero, so that it settles."""

    steps: int
    lr: float
    seed: int
    what: str
    progress: ProgressCallback

    def __call__(self, learned: Sequence[Tensor], loss: Loss) -> float:
        """Minimise; returns the mean loss of the last tenth.

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
