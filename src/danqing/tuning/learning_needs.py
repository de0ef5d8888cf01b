"""What it takes to learn a subject, as some steps on this machine say."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import torch

from danqing.core.brief import Brief
from danqing.core.needs import Needs, peak_memory, second_of, try_step
from danqing.diffusion.painter import DiffusionPainter
from danqing.training.checkpoint import size_of
from danqing.training.trainer import step_generator
from danqing.tuning.adapter import Adapter, attach
from danqing.tuning.dreambooth import AT_ONCE, LossOptions, Shots, SubjectObjective, freeze_networks
from danqing.tuning.subject_run import LearnOptions

_PICTURE = 200_000  # bytes, of a painted probe on a sheet


def learning_needs(
    painter: DiffusionPainter,
    adapter: Adapter,
    subject: Shots,
    options: LearnOptions,
    probes: int,
    *,
    done: int,
    prior: bool | None,
) -> Needs:
    """What is still needed, by two steps of learning and two of painting; they change nothing.

    probes: how many pictures a sheet has. done: how many steps are done. prior: whether pictures of the kind
    are still to be painted; None where none are needed.
    """
    step = _learning_step(painter, adapter, subject, options, with_prior=prior is not None)
    sheets = options.last // options.look_every - done // options.look_every + 1
    seconds = (options.last - done) * step + probes * sheets * _painting(painter, options, 1)
    latents = 0
    if prior is not None:
        latents = options.prior_count * size_of([subject.latents[0]])
    if prior:
        batches = -(-options.prior_count // AT_ONCE)
        seconds += batches * _painting(painter, options, min(AT_ONCE, options.prior_count))
    learned = size_of(adapter.tensors())
    # two checkpoints of weights, average and AdamW's two, the best and the last
    disk = 10 * learned + latents + size_of([subject.latents]) + probes * sheets * _PICTURE
    return Needs(seconds, peak_memory(painter.device), disk)


def _learning_step(
    painter: DiffusionPainter, adapter: Adapter, subject: Shots, options: LearnOptions, *, with_prior: bool
) -> float:
    """Seconds of a step of learning; the pictures of the subject stand for those of its kind."""
    with freeze_networks(painter), attach(painter, {adapter: 1.0}):
        loss = LossOptions(options.prior_weight, options.gamma)
        objective = SubjectObjective(painter, adapter, subject, subject if with_prior else None, (), loss)
        objective.place(painter.device)
        batch = objective.batch(options.batch, step_generator(options.seed, 0))

        def steps() -> Iterator[float]:
            while True:
                loss = objective(batch)["loss"]
                torch.autograd.backward(loss)
                yield float(loss.detach())

        _, seconds = second_of(steps())
        objective.zero_grad(set_to_none=True)
    return seconds


def _painting(painter: DiffusionPainter, options: LearnOptions, n: int) -> float:
    """Seconds in which n pictures are painted at once, by the defaults of the painter's card."""
    brief = Brief.of(options.kind, seed=options.seed, native=True).resolve(painter.card)
    conditioning = painter.condition(brief)
    canvas, seconds = try_step(painter, brief, conditioning, n)
    start = perf_counter()
    painter.finish(canvas)
    return canvas.of * seconds + perf_counter() - start
