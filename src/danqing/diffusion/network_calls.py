"""Loops that answer the calls of samplers and guidance."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TypeVar, cast

import torch
from torch import Tensor

from danqing.diffusion.guidance import NetworkCall
from danqing.diffusion.samplers import DenoiserCalls, DenoiserOutput
from danqing.diffusion.schedule import Level

S = TypeVar("S")

CallStream = Generator[NetworkCall | S, Tensor | None, None]
"""Yields network calls, to be sent their outputs, and between them what was made, to be sent nothing."""


def sampler_calls(
    calls: DenoiserCalls,
    denoise: Callable[[Tensor, Level], Generator[NetworkCall, Tensor, DenoiserOutput]],
    done: Callable[[Tensor, Tensor], S],
) -> CallStream[S]:
    """As `run_sampler`, where `denoise` yields its network calls, and is sent their outputs.

    done: (x after a step, the x0 it was made from) -> what to yield after that step; nothing is sent for it.
    """
    call = next(calls)
    while True:
        network_calls = denoise(call.x, call.level)  # which is sent tensors alone
        output = yield from cast("Generator[NetworkCall, Tensor | None, DenoiserOutput]", network_calls)
        try:
            call = calls.send(output)
        except StopIteration as stop:
            yield done(stop.value, output.x0)
            return
        if not call.trial:
            yield done(call.x, output.x0)


def answer_calls(calls: CallStream[S]) -> Iterator[S]:
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
