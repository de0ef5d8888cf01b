"""A worker that paints several requests at once: each gets its own picture, and who cannot share waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import danqing
from danqing.core.picture import Picture
from danqing.execution.fair_lock import FairLock
from danqing.studio.browse import Filter
from danqing.studio.jobs import OVER
from danqing.studio.service import Studio, StudioOptions
from danqing.studio.tables import JobRow
from danqing.studio.throughput import Gate, ThroughputSession
from tests.tiny import model_folder

PROMPT = {"prompt": "a red apple", "model": "tiny", "native": True, "seed": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio")
    model_folder(folder / "models" / "tiny")
    return folder


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Studio]:
    studio = Studio(StudioOptions(folder, ("cpu",), "tiny", rows=16))
    studio.start()
    yield studio
    studio.stop()


def wait(studio: Studio, job: JobRow, states: tuple[str, ...] = OVER, owner: str = "me") -> JobRow:
    deadline = time.monotonic() + 240
    while (row := studio.store.queue.get(owner, job.id)).state not in states:
        assert time.monotonic() < deadline, f"{row.state} {row.error}"
        time.sleep(0.02)
    return row


def pictures(studio: Studio, job: JobRow, owner: str = "me") -> list[Picture]:
    rows = sorted(studio.store.browser.page(Filter(owner, job=job.id)), key=lambda row: row.index)
    return [Picture.open(studio.store.gallery.path(row.file)) for row in rows]


def pixels(picture: Picture) -> Tensor:
    return torch.frombuffer(bytearray(picture.image.tobytes()), dtype=torch.uint8).int()


def test_jobs_run_beside_each_other_and_each_is_its_own_picture(studio: Studio, folder: Path) -> None:
    long = studio.submit("me", "paint", {**PROMPT, "steps": 100, "sampler": "ddim"})
    wait(studio, long, ("running",))
    wanted = [{**PROMPT, "seed": k, "steps": 3 + k, "sampler": "euler"} for k in range(4)]
    jobs = [studio.submit("you", "paint", fields) for fields in wanted]
    ended = [wait(studio, job, owner="you") for job in jobs]
    assert {row.state for row in ended} == {"done"}
    assert studio.store.queue.get("me", long.id).state == "running"  # a short job is not behind a long one
    for fields, job in zip(wanted, jobs, strict=True):
        [picture] = pictures(studio, job, "you")
        own = {**fields, "model": str(folder / "models" / "tiny")}
        [expected] = danqing.paint(own.pop("prompt"), **own)
        assert ((pixels(picture) - pixels(expected)).abs() <= 1).float().mean() >= 0.999
        assert (picture.info.backend, expected.info.backend) == ("eager batched", "eager")
    studio.cancel("me", long.id)
    assert wait(studio, long).state == "cancelled"


def test_what_changes_the_network_is_painted_alone_and_byte_equal(studio: Studio, folder: Path) -> None:
    jobs = [studio.submit("me", "paint", {**PROMPT, "seed": k, "steps": 20}) for k in range(3)]
    seamless = studio.submit("me", "paint", {**PROMPT, "steps": 4, "tile": True})
    jobs += [studio.submit("me", "paint", {**PROMPT, "seed": k, "steps": 4}) for k in range(3, 6)]
    assert {wait(studio, job).state for job in [*jobs, seamless]} == {"done"}
    [picture] = pictures(studio, seamless)
    [expected] = danqing.paint(
        "a red apple", seed=7, steps=4, tile=True, native=True, model=str(folder / "models" / "tiny")
    )
    assert torch.equal(pixels(picture), pixels(expected))
    assert picture.info.backend == "eager"


def test_other_apps_run_as_ever(studio: Studio) -> None:
    first = studio.submit("me", "paint", {**PROMPT, "native": False, "steps": 3})
    wait(studio, first)
    [row] = studio.store.browser.page(Filter("me", job=first.id))
    again = studio.submit("me", "redraw", {"image": row.id, "prompt": "a pear", "model": "tiny", "steps": 3})
    ended = wait(studio, again)
    assert (ended.state, ended.error) == ("done", None)


def test_one_row_keeps_requests_apart_byte_for_byte(folder: Path) -> None:
    place = folder / "models" / "tiny"
    session = ThroughputSession(rows=1, models=folder / "models")
    results: dict[int, Picture] = {}

    def ask(seed: int) -> None:
        session.as_user(str(seed))
        [results[seed]] = session.paint("a cat", model="tiny", seed=seed, steps=4, native=True)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for seed, picture in results.items():
        [expected] = danqing.paint("a cat", model=str(place), seed=seed, steps=4, native=True)
        assert picture.image.tobytes() == expected.image.tobytes()
        assert picture.info.backend == "eager"
    assert len(results) == 3


def test_a_gate_lets_one_alone_or_many_together() -> None:
    gate, inside, most, errors = Gate(), [], [0], []

    def go(alone: bool) -> None:
        for _ in range(30):
            with gate.alone() if alone else gate.together():
                inside.append(alone)
                most[0] = max(most[0], len(inside))
                if alone and len(inside) != 1:
                    errors.append(list(inside))
                time.sleep(0.0005)
                inside.remove(alone)

    threads = [threading.Thread(target=go, args=(k < 2,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    assert most[0] > 1


def test_a_fair_lock_goes_round() -> None:
    lock, order, ready = FairLock(), [], threading.Barrier(3)

    def take(name: str) -> None:
        ready.wait()
        for _ in range(50):
            with lock:
                order.append(name)
                time.sleep(0.0002)

    threads = [threading.Thread(target=take, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(order) == 150
    runs = [len(set(order[k : k + 3])) for k in range(30, 100)]
    assert sum(run == 3 for run in runs) >= 60
