"""Loops that answer what samplers and guidance ask."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TypeVar, cast

import torch
from torch import Tensor

from danqing.diffusion.guidance import NetworkCall
from danqing.diffusion.samplers import Answer, Walk
from danqing.diffusion.schedule import Level

S = TypeVar("S")

Calls = Generator[NetworkCall | S, Tensor | None, None]
"""Yields network calls, to be sent their outputs, and between them what was made, to be sent nothing."""


def sampler_calls(
    walk: Walk,
    denoise: Callable[[Tensor, Level], Generator[NetworkCall, Tensor, Answer]],
    done: Callable[[Tensor, Tensor], S],
) -> Calls[S]:
    """As `run_sampler`, where `denoise` asks in its turn: yields what it yields, and is sent the answers.

    done: (x after a step, the clean estimate it was made from) -> what to yield after that step; nothing is
        sent for it.
    """
    question = next(walk)
    while True:
        asking = denoise(question.x, question.level)  # which is sent tensors alone
        answer = yield from cast("Generator[NetworkCall, Tensor | None, Answer]", asking)
        try:
            question = walk.send(answer)
        except StopIteration as stop:
            yield done(stop.value, answer.clean)
            return
        if not question.trial:
            yield done(question.x, answer.clean)


def answer_calls(calls: Calls[S]) -> Iterator[S]:
    """What was made, each network call answered by itself and without gradients."""
    output: Tensor | None = None
    while True:
        try:
            event = calls.send(output)
        except StopIteration:
            return
        if isinstance(event, NetworkCall):
            with torch.no_grad():
                output = event.output()
        else:
            yield event
            output = None
