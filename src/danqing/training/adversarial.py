"""The trainer of a GAN: two optimisers, an average that copies buffers, and warnings when training collapses.

It shares its loop, checkpoints, log and sample sheets with the other trainer (`training.run`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from danqing.core.errors import NotFinite
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.nets.latent import LatentGenerator
from danqing.training import checkpoint
from danqing.training.checkpoint import size_of
from danqing.training.gan import GanTask
from danqing.training.run import Run, RunOptions
from danqing.training.trainer import step_generator

_CERTAIN = 1e-3  # a discriminator with a smaller loss gives the generator no gradient
_ALIKE = 0.05  # least spread of painted pictures, as a share of the spread of real ones
_LEAKING = 0.8  # probability of augmentation above which the generator begins to paint the changes


@dataclass(frozen=True)
class AdversarialOptions(RunOptions):
    """How to train a GAN. The defaults are StyleGAN's; DCGAN's are 2e-4 and (0.5, 0.999).

    lr: learning rate of the generator.
    lr_discriminator: learning rate of the discriminator.
    betas: Adam's betas.
    patience: number of steps for which a problem must last before it is reported; in its first hundreds of
        steps any generator paints much the same.
    """

    lr: float = 2.5e-3
    lr_discriminator: float = 2.5e-3
    betas: tuple[float, float] = (0.0, 0.99)
    patience: int = 500


class AdversarialTrainer(Run):
    """Trains two networks against each other in a run folder; a second call resumes there, bit-equal.

    With several processes each one computes the whole batch, because the losses couple its pictures.

    Raises:
        BadData: the networks cannot learn from batches of that size.
    """

    def __init__(self, task: GanTask, options: AdversarialOptions, run: Path) -> None:
        super().__init__(options, run)
        task.generator.check_batch(options.batch)
        task.discriminator.check_batch(options.batch)
        self.options = options
        self.task = task.to(self.processes.device)
        self._optimisers = _Two(
            Adam(task.generator.parameters(), options.lr, options.betas, eps=1e-8),
            Adam(task.discriminator.parameters(), options.lr_discriminator, options.betas, eps=1e-8),
        )
        self._signs = Signs(options.patience)
        self._progress: ProgressCallback = no_progress

    def train(
        self, progress: ProgressCallback = no_progress, look: Callable[[int], None] | None = None
    ) -> LatentGenerator:
        """Train to the last step. Returns the averaged generator.

        progress: also gets warnings about training problems.
        look: called with the step after each sample sheet.

        Raises:
            NotFinite: a loss or a gradient is NaN or infinite; the last good checkpoint stays.
        """
        self._progress = progress
        self._loop(progress, look)
        return self.task.average

    @contextmanager
    def ema_scope(self) -> Iterator[GanTask]:
        """Yields the task unchanged, because it holds the averaged generator beside the trained one."""
        yield self.task

    def _step(self, step: int) -> dict[str, float]:
        task, size, rng = self.task, self.options.batch, step_generator(self.options.seed, step)
        task.generator.train()
        task.discriminator.train()
        values = self._descend(
            self._optimisers.discriminator, task.discriminator_losses(size, rng, step), step
        )
        with task.freeze():
            values |= self._descend(self._optimisers.generator, task.generator_losses(size, rng, step), step)
        task.follow((step + 1) * size, size)
        for line in self._signs.of(values):
            self._progress(Progress(step + 1, self._pace.last, f"step {step + 1}: {line}"))
        return values

    def _descend(self, optimiser: Adam, losses: dict[str, Tensor], step: int) -> dict[str, float]:
        """Take one optimiser step on `loss`. Returns the other losses as numbers."""
        loss = losses.pop("loss")
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not (math.isfinite(float(loss.detach())) and math.isfinite(float(norm))):
            raise NotFinite(
                f"loss {float(loss.detach())} and gradient {float(norm)} at step {step}: training stopped "
                "and the checkpoint before it is kept; continue with a lower learning rate"
            )
        optimiser.step()
        return {name: float(value) for name, value in losses.items()}

    def _resume(self) -> None:
        saved = checkpoint.load(self.run / "checkpoint", self.task, self._optimisers)
        if saved is not None:
            _, self._at = saved

    def _save(self) -> None:
        # the task contains the averaged weights, so the list of EMA weights is empty
        checkpoint.save(self.run / "checkpoint", self.task, [], self._optimisers, self._at)

    def _checkpoint_size(self) -> int:
        networks = self.task.generator, self.task.discriminator
        trained = size_of(weight for network in networks for weight in network.parameters())
        return size_of(self.task.state_dict().values()) + 2 * trained  # Adam keeps two moments of each weight


class Signs:
    """Counts for how many steps each problem has lasted, and reports it when the patience is reached."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._lasting = {"certain": 0, "alike": 0, "leaking": 0}

    def of(self, values: dict[str, float]) -> Iterator[str]:
        """The warnings after a step with these losses.

        Each is given once for as long as its problem lasts.
        """
        now = {
            "certain": values["discriminator"] < _CERTAIN,
            "alike": values["spread"] < _ALIKE,
            "leaking": values["augmented"] > _LEAKING,
        }
        for sign, present in now.items():
            self._lasting[sign] = self._lasting[sign] + 1 if present else 0
            if self._lasting[sign] == self._patience:
                yield _MESSAGES[sign].format(steps=self._patience)


_MESSAGES = {
    "certain": "the discriminator has been sure for {steps} steps, so the generator learns nothing: "
    "lower its learning rate or raise r1",
    "alike": "the painted pictures have been nearly the same for {steps} steps (mode collapse): go back "
    "to an earlier run and raise r1 or the batch",
    "leaking": "augmentation is so strong that it begins to show in what is painted: use more pictures",
}


@dataclass(frozen=True)
class _Two:
    """Both optimisers as one, for a checkpoint."""

    generator: Adam
    discriminator: Adam

    def state_dict(self) -> dict[str, Any]:
        """The states of both optimisers."""
        return {"generator": self.generator.state_dict(), "discriminator": self.discriminator.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both optimisers."""
        self.generator.load_state_dict(state_dict["generator"])
        self.discriminator.load_state_dict(state_dict["discriminator"])
