"""The one trainer: EMA, gradient clipping, bf16, exact resume, a stop on NaN, progress and sample sheets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import Generator, Tensor

from danqing.core.errors import NotFinite
from danqing.core.progress import ProgressCallback, no_progress
from danqing.training import checkpoint
from danqing.training.checkpoint import size_of
from danqing.training.objective import Batch, Objective
from danqing.training.prefetch import Prefetcher
from danqing.training.run import Run, RunOptions


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """How long and how fast to train.

    lr: peak learning rate; it falls to a tenth along half a cosine after a linear warm-up.
    warmup: number of steps of the warm-up.
    weight_decay: weight decay of AdamW.
    betas: betas of AdamW.
    clip: largest norm of the gradient.
    ema: decay of the averaged weights in each step.
    precision: "bf16" for mixed precision (weights stay float32), "no" for none.
    """

    lr: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "bf16"


def learning_rate(step: int, options: TrainOptions) -> float:
    """The learning rate of a step: linear warm-up, then half a cosine from the peak to a tenth of it."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def step_generator(seed: int, step: int) -> Generator:
    """The random generator of one step. It depends on (seed, step) alone: checkpoints need not store it."""
    return Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


class Trainer(Run):
    """Trains an objective in a run folder; a second call resumes there, bit-equal."""

    def __init__(self, objective: Objective, options: TrainOptions, run: Path) -> None:
        super().__init__(options, run)
        objective.check_batch(options.batch)
        self.options = options
        objective.place(self.processes.device)
        self.objective = objective
        self._optimiser = torch.optim.AdamW(
            [p for p in objective.parameters() if p.requires_grad],
            lr=options.lr,
            betas=options.betas,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self._ema = EMAModel(self._parameters(), decay=options.ema, foreach=True)
        self._ahead: Prefetcher | None = None

    def train(
        self, progress: ProgressCallback = no_progress, look: Callable[[int], None] | None = None
    ) -> Objective:
        """Train to the last step. Returns the objective with its EMA weights in place.

        look: called with the step after each sample sheet, while the EMA weights are in place.

        Raises:
            NotFinite: the loss or its gradient is NaN or infinite; the last good checkpoint stays.
        """
        if self.processes.device.type != "cpu":  # on a CPU the two threads would only slow each other down
            self._ahead = Prefetcher(self._draw)
        try:
            self._loop(progress, look)
        finally:
            if self._ahead is not None:
                self._ahead.close()
        self._ema.copy_to(self._parameters())
        return self.objective

    def _draw(self, step: int) -> Batch:
        size = self.options.batch
        batch = self.objective.batch(size, step_generator(self.options.seed, step))
        return self.processes.rows_of(batch, size) if self.objective.row_wise else batch

    def _step(self, step: int) -> dict[str, float]:
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(step, self.options)
        batch = self._draw(step) if self._ahead is None else self._ahead(step)
        batch = {key: value.to(self.processes.device) for key, value in batch.items()}
        self.objective.train()
        with self._autocast():
            losses = self.objective(batch)
        torch.autograd.backward(losses["loss"].float())
        self.processes.average_gradients(self._parameters())
        norm = torch.nn.utils.clip_grad_norm_(self._parameters(), self.options.clip)
        values = {name: float(value.detach()) for name, value in self.processes.mean(losses).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(float(norm))):
            raise NotFinite(
                f"loss {values['loss']} and gradient {float(norm)} at step {step}: training stopped and the "
                "checkpoint before it is kept; continue with a lower learning rate"
            )
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._ema.step(self._parameters())
        return values

    def _autocast(self) -> torch.autocast:
        kind, half = self.processes.device.type, self.options.precision == "bf16"
        return torch.autocast(kind, torch.bfloat16, enabled=half)

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [p for p in self.objective.parameters() if p.requires_grad]

    def _resume(self) -> None:
        saved = checkpoint.load(self.run / "checkpoint", self.objective, self._optimiser)
        if saved is not None:
            shadow, self._at = saved
            self._ema.shadow_params = [t.to(self.processes.device) for t in shadow]
            self._ema.optimization_step = self._at.step

    def _save(self) -> None:
        shadow: list[Tensor] = self._ema.shadow_params
        checkpoint.save(self.run / "checkpoint", self.objective, shadow, self._optimiser, self._at)

    def _checkpoint_size(self) -> int:
        trained = size_of(self._parameters())
        # the EMA weights, and AdamW's two moments
        return size_of(self.objective.state_dict().values()) + 3 * trained

    @contextmanager
    def ema_scope(self) -> Iterator[Objective]:
        """A context with the EMA weights in place; the trained ones come back when it ends."""
        self._ema.store(self._parameters())
        self._ema.copy_to(self._parameters())
        try:
            yield self.objective.eval()
        finally:
            self._ema.restore(self._parameters())
