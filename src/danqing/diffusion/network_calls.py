"""Loops that run the calls of samplers and guidance."""

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
"""Yields network calls, each of which is sent its output, and results of type S, which are sent None."""


def sampler_calls(
    calls: DenoiserCalls,
    denoise: Callable[[Tensor, Level], Generator[NetworkCall, Tensor, DenoiserOutput]],
    done: Callable[[Tensor, Tensor], S],
) -> CallStream[S]:
    """As `run_sampler`, but network calls are yielded and sent their outputs.

    calls: the sampler.
    denoise: (x, level) -> a generator of network calls that returns the denoiser's output.
    done: (x after a step, the x0 it was made from) -> the result to yield after that step.
    """
    call = next(calls)
    while True:
        network_calls = denoise(call.x, call.level)  # None is never sent to it
        output = yield from cast("Generator[NetworkCall, Tensor | None, DenoiserOutput]", network_calls)
        try:
            call = calls.send(output)
        except StopIteration as stop:
            yield done(stop.value, output.x0)
            return
        if not call.trial:
            yield done(call.x, output.x0)


def answer_calls(calls: CallStream[S]) -> Iterator[S]:
    """Run each network call separately, without gradients, and yield the results."""
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
