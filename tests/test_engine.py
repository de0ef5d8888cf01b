"""Many requests in one call of the network: each gets its own picture, its fair share, and its own end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.errors import NotFinite
from danqing.core.painter import Canvas, Conditioning
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import NetworkCall
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.samplers import SAMPLERS
from danqing.execution.engine import Engine, EngineRequest, EngineThread
from danqing.families.stable_diffusion.painter import random_painter


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return random_painter("tiny")


def brief_of(painter: DiffusionPainter, prompt: str, **fields: Any) -> ResolvedBrief:
    return Brief.of(prompt, **{"native": True, "seed": 1, "steps": 3, **fields}).resolve(painter.card)


def start(painter: DiffusionPainter, brief: ResolvedBrief) -> tuple[Conditioning, Canvas]:
    words = painter.condition(brief)
    return words, painter.begin(brief, words, Seeds(brief.seeds))


def alone(painter: DiffusionPainter, brief: ResolvedBrief) -> Tensor:
    *_, last = painter.steps(brief, *start(painter, brief))
    return last.state


def request(
    painter: DiffusionPainter, brief: ResolvedBrief, user: str = ""
) -> tuple[EngineRequest[Canvas], list[Any]]:
    """A request and what became of it: its canvases, then its end."""
    log: list[Any] = []
    return EngineRequest(painter.calls(brief, *start(painter, brief)), user, log.append, log.append), log


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-4 * theirs.abs().max())


def run(engine: Engine) -> None:
    while engine.round():
        pass


SEVERAL = [
    {"prompt": "a cat", "sampler": "euler", "steps": 4, "guidance": 5},
    {"prompt": "a dog", "sampler": "dpmpp_2m", "steps": 2, "seed": 7},
    {"prompt": "two owls", "sampler": "heun", "steps": 3, "guidance": 1},
    {"prompt": "a fish", "sampler": "euler_ancestral", "steps": 5, "count": 2},
    {"prompt": "[a red:a blue:0.5] apple", "sampler": "lcm", "steps": 4},
]


def test_requests_of_every_kind_share_a_batch_and_get_their_own_pictures(painter: DiffusionPainter) -> None:
    briefs = [brief_of(painter, **fields) for fields in SEVERAL]
    expected = [alone(painter, brief) for brief in briefs]
    engine, logs = Engine(rows=64), []
    for brief in briefs:
        each, log = request(painter, brief)
        engine.add(each)
        logs.append(log)
    run(engine)
    for brief, log, state in zip(briefs, logs, expected, strict=True):
        assert [canvas.step for canvas in log[:-1]] == list(range(1, brief.steps + 1))
        assert log[-1] is None
        assert close(log[-2].state, state)
    assert engine.rounds < sum(brief.steps for brief in briefs)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.sampled_from(sorted(SAMPLERS)), min_size=1, max_size=4), st.data())
def test_alone_in_its_calls_a_request_is_byte_equal(names: list[str], data: st.DataObject) -> None:
    painter = random_painter("tiny")
    briefs = [brief_of(painter, "a cat", sampler=name, steps=data.draw(st.integers(2, 4))) for name in names]
    engine, logs = Engine(rows=1), []
    for brief in briefs:
        each, log = request(painter, brief)
        engine.add(each)
        logs.append(log)
        for _ in range(data.draw(st.integers(0, 2))):  # they join at any step
            engine.round()
    run(engine)
    for brief, log in zip(briefs, logs, strict=True):
        assert torch.equal(log[-2].state, alone(painter, brief))


def test_a_picture_of_a_batch_differs_by_one_grey_level_at_most(painter: DiffusionPainter) -> None:
    briefs = [brief_of(painter, f"{k} cats", seed=k, steps=8) for k in range(6)]
    engine, logs = Engine(rows=12), []
    for brief in briefs:
        each, log = request(painter, brief)
        engine.add(each)
        logs.append(log)
    run(engine)
    for brief, log in zip(briefs, logs, strict=True):
        ours, theirs = (
            (painter.finish(replace(log[-2], state=state)) * 127.5).round()
            for state in (log[-2].state, alone(painter, brief))
        )
        assert ((ours - theirs).abs() <= 1).float().mean() >= 0.999


def counting(log: list[str], name: str, calls: int, rows: int = 1, network: Any = None) -> Iterator[Any]:
    """A coroutine of so many calls of rows of zeros, which logs each answer."""

    def plain(x: Tensor, _t: Tensor, _c: Conditioning) -> Tensor:
        return x + 1

    network = network or _SHARED.setdefault("network", plain)
    for _ in range(calls):
        x = torch.zeros(rows, 1, 2, 2)
        answer = yield NetworkCall(network, x, torch.zeros(rows), Conditioning(torch.zeros(rows, 3, 4)))
        assert answer.shape == x.shape
        log.append(name)


_SHARED: dict[str, Any] = {}


def test_users_get_the_same_share_however_much_they_ask_for() -> None:
    engine, log = Engine(rows=1), list[str]()
    for _ in range(5):
        engine.add(EngineRequest(counting(log, "greedy", 20), "greedy"))
    engine.add(EngineRequest(counting(log, "modest", 20), "modest"))
    for _ in range(20):
        engine.round()
    assert abs(log.count("greedy") - log.count("modest")) <= 1


def test_a_short_request_is_not_behind_a_long_one() -> None:
    engine, log = Engine(rows=1), list[str]()
    engine.add(EngineRequest(counting(log, "long", 100)))
    for _ in range(50):
        engine.round()
    engine.add(EngineRequest(counting(log, "short", 4)))
    for _ in range(9):
        engine.round()
    assert log.count("short") == 4


def test_an_absence_earns_nothing() -> None:
    engine, log = Engine(rows=1), list[str]()
    engine.add(EngineRequest(counting(log, "early", 200), "early"))
    for _ in range(100):
        engine.round()
    engine.add(EngineRequest(counting(log, "late", 50), "late"))
    log.clear()
    for _ in range(20):
        engine.round()
    assert abs(log.count("early") - log.count("late")) <= 1


def test_large_requests_cost_their_rows() -> None:
    engine, log = Engine(rows=1), list[str]()
    engine.add(EngineRequest(counting(log, "four", 20, rows=4), "one"))
    engine.add(EngineRequest(counting(log, "single", 80), "other"))
    for _ in range(25):
        engine.round()
    assert 3 <= log.count("single") / log.count("four") <= 5


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_no_call_has_more_rows_than_allowed_unless_one_request_has(rows: int) -> None:
    sizes = []

    def network(x: Tensor, _t: Tensor, _c: Conditioning) -> Tensor:
        sizes.append(len(x))
        return x

    engine = Engine(rows=rows)
    for _ in range(5):
        engine.add(EngineRequest(counting([], "", 3, rows=2, network=network)))
    run(engine)
    assert max(sizes) == max(2, rows // 2 * 2)
    assert sum(sizes) == 5 * 3 * 2


def test_sizes_and_networks_keep_apart(painter: DiffusionPainter) -> None:
    briefs = [
        brief_of(painter, "a cat"),
        brief_of(painter, "a cat", width=64),
        brief_of(painter, "a cat", tile=True),
    ]
    engine, logs = Engine(rows=64), []
    for brief in briefs:
        each, log = request(painter, brief)
        engine.add(each)
        logs.append(log)
    run(engine)
    for brief, log in zip(briefs, logs, strict=True):
        assert torch.equal(log[-2].state, alone(painter, brief))
    assert all(
        layer.padding_mode == "zeros"
        for layer in painter.modules["unet"].modules()
        if hasattr(layer, "padding_mode")
    )


def test_a_request_that_fails_takes_no_other_with_it() -> None:
    def network(x: Tensor, t: Tensor, _c: Conditioning) -> Tensor:
        if len(x) > 1 and bool((t == 7).any()):
            raise MemoryError
        if bool((t == 7).any()):
            raise NotFinite("at 7")
        return x

    def bad() -> Iterator[Any]:
        yield NetworkCall(
            network, torch.zeros(1, 1, 2, 2), torch.full((1,), 7.0), Conditioning(torch.zeros(1, 3, 4))
        )

    def worse() -> Iterator[Any]:
        yield from counting([], "", 1, network=network)
        raise ValueError("its own")

    ends: dict[str, Any] = {}
    engine, log = Engine(rows=8), list[str]()
    engine.add(
        EngineRequest(counting(log, "good", 3, network=network), on_end=lambda error: ends.update(good=error))
    )
    engine.add(EngineRequest(bad(), on_end=lambda error: ends.update(bad=error)))
    engine.add(EngineRequest(worse(), on_end=lambda error: ends.update(worse=error)))
    run(engine)
    assert log == ["good"] * 3
    assert ends["good"] is None
    assert str(ends["bad"]) == "at 7"
    assert str(ends["worse"]) == "its own"


def test_a_cancelled_request_leaves_before_the_next_call(painter: DiffusionPainter) -> None:
    engine = Engine(rows=8)
    each, log = request(painter, brief_of(painter, "a cat", steps=9))
    other, other_log = request(painter, brief_of(painter, "a dog", steps=3))
    engine.add(each)
    engine.add(other)
    engine.round()
    each.cancel()
    run(engine)
    assert [canvas.step for canvas in log[:-1]] == [1]
    assert log[-1] is None
    assert other_log[-2].step == 3


def test_threads_wait_for_their_own(painter: DiffusionPainter) -> None:
    thread = EngineThread(rows=16)
    briefs = [brief_of(painter, f"{k} cats", seed=k, steps=2 + k) for k in range(4)]
    results: dict[int, list[Canvas]] = {}

    def ask(k: int) -> None:
        results[k] = list(thread.stream(painter.calls(briefs[k], *start(painter, briefs[k])), f"user {k}"))

    askers = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(60)
    for k, brief in enumerate(briefs):
        assert len(results[k]) == brief.steps
        assert close(results[k][-1].state, alone(painter, brief))
    canvases = thread.stream(painter.calls(briefs[3], *start(painter, briefs[3])))
    next(canvases)
    canvases.close()  # cancels it

    def failing() -> Iterator[Any]:
        yield from counting([], "", 1)
        raise NotFinite("broken")

    with pytest.raises(NotFinite, match="broken"):
        list(thread.stream(failing()))
    thread.close()
    assert len(thread.engine) == 0
