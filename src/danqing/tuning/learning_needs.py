"""Estimates time, memory and disk space for learning a subject, from some steps on this machine."""

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

_PICTURE = 200_000  # bytes of one painted probe in a sample sheet


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
    """What is still needed, measured by two training steps and two sampling steps, which change nothing.

    probes: number of pictures in a sample sheet.
    done: number of steps done.
    prior: whether the prior pictures are still to be painted; None if none are needed.
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
    # two checkpoints of weights, EMA and AdamW's two moments; the best adapter and the last
    disk = 10 * learned + latents + size_of([subject.latents]) + probes * sheets * _PICTURE
    return Needs(seconds, peak_memory(painter.device), disk)


def _learning_step(
    painter: DiffusionPainter, adapter: Adapter, subject: Shots, options: LearnOptions, *, with_prior: bool
) -> float:
    """Seconds of one training step; the subject's pictures stand for those of its class."""
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
    """Seconds to paint n pictures in one batch with the defaults of the painter's card."""
    brief = Brief.of(options.kind, seed=options.seed, native=True).resolve(painter.card)
    conditioning = painter.condition(brief)
    canvas, seconds = try_step(painter, brief, conditioning, n)
    start = perf_counter()
    painter.finish(canvas)
    return canvas.of * seconds + perf_counter() - start
