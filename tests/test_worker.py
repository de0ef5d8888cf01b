"""Workers are real processes with a real, tiny model; they are killed, and the work is finished anyway."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from danqing.core.errors import DanqingError
from danqing.core.picture import Picture
from danqing.studio.browse import Filter
from danqing.studio.frames import BYTES_MAX, Frame
from danqing.studio.jobs import OVER
from danqing.studio.service import Studio, StudioOptions
from danqing.studio.tables import EventRow, JobRow
from tests.tiny import model_folder

PROMPT: dict[str, Any] = {"prompt": "a red apple", "model": "tiny", "native": True, "seed": 7}
LONG: dict[str, Any] = {**PROMPT, "steps": 100, "sampler": "ddim"}


class Watched(Studio):
    """A studio whose news are kept."""

    def __init__(self, folder: Path) -> None:
        super().__init__(StudioOptions(folder, ("cpu",), "tiny"))
        self.frames: list[Frame] = []
        self.events: list[EventRow] = []
        self.on_frame = self.frames.append
        self.on_events = self.events.extend

    def wait(self, job: JobRow, reached: Callable[[JobRow], bool] = lambda row: row.state in OVER) -> JobRow:
        deadline = time.monotonic() + 120
        while not reached(row := self.store.queue.get("me", job.id)):
            assert time.monotonic() < deadline, f"{row.state} {row.error}"
            time.sleep(0.02)
        return row

    def begun(self, job: JobRow, step: int = 1) -> None:
        self.wait(job, lambda row: any(f.job == row.id and f.step >= step for f in self.frames))

    def worker(self) -> int:
        [worker] = self.pool._workers.values()
        assert worker.process.pid is not None
        return worker.process.pid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio")
    model_folder(folder / "models" / "tiny")
    return folder


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Watched]:
    studio = Watched(folder)
    studio.start()
    yield studio
    studio.stop()


def pixels(studio: Studio, job: JobRow) -> list[bytes]:
    rows = sorted(studio.store.browser.page(Filter("me", job=job.id)), key=lambda row: row.index)
    return [Picture.open(studio.store.gallery.path(row.file)).image.tobytes() for row in rows]


def test_a_job_is_painted_step_by_step(studio: Watched) -> None:
    job = studio.wait(studio.submit("me", "paint", {**PROMPT, "count": 2, "steps": 4}))
    assert (job.state, job.error, job.expected) == ("done", None, 2)
    frames = [frame for frame in studio.frames if frame.job == job.id]
    assert {frame.of for frame in frames} == {8}
    assert (frames[-1].step, frames[-1].picture) == (8, 1)
    assert all(frame.preview and len(frame.preview) <= BYTES_MAX for frame in frames)
    deadline = time.monotonic() + 10
    while (kinds := [e.kind for e in studio.events if e.job == job.id])[-1] != "job" or len(kinds) < 5:
        assert time.monotonic() < deadline, kinds
        time.sleep(0.02)
    assert kinds == ["job", "job", "picture", "picture", "job"]
    assert len(pixels(studio, job)) == 2
    assert job.id not in studio.pool.frames


def test_killing_the_worker_loses_and_doubles_nothing(studio: Watched) -> None:
    whole = studio.wait(studio.submit("me", "paint", {**LONG, "count": 2}))
    job = studio.submit("me", "paint", {**LONG, "count": 2})
    other = studio.submit("me", "paint", PROMPT)
    studio.begun(job, step=130)  # one picture is finished
    assert len(pixels(studio, job)) == 1
    os.kill(studio.worker(), signal.SIGKILL)
    row = studio.wait(job)
    assert (row.state, row.deaths, row.claims) == ("done", 1, 2)
    assert pixels(studio, job) == pixels(studio, whole)
    assert studio.wait(other).state == "done"


def test_a_job_that_kills_twice_is_given_up(studio: Watched) -> None:
    job = studio.submit("me", "paint", {**LONG, "steps": 1000})
    for deaths in (1, 2):
        studio.wait(job, lambda row, n=deaths: row.claims == n and row.state == "running")  # type: ignore[misc]
        os.kill(studio.worker(), signal.SIGKILL)
        studio.wait(job, lambda row, n=deaths: row.deaths == n)  # type: ignore[misc]
    row = studio.wait(job)
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == "worker_died"
    assert studio.wait(studio.submit("me", "paint", PROMPT)).state == "done"


def test_cancelling_stops_within_a_step(studio: Watched) -> None:
    job = studio.submit("me", "paint", {**LONG, "steps": 1000, "count": 3})
    studio.begun(job)
    start = time.monotonic()
    studio.cancel("me", job.id)
    assert studio.wait(job).state == "cancelled"
    assert time.monotonic() - start < 2
    assert studio.wait(studio.submit("me", "paint", PROMPT)).state == "done"


def test_errors_are_told(studio: Watched, folder: Path) -> None:
    with pytest.raises(DanqingError, match="steps"):
        studio.submit("me", "paint", {**PROMPT, "steps": 0})
    with pytest.raises(DanqingError, match="path"):
        studio.submit("me", "animate", {"prompt": "x", "model": "tiny", "settings": "/etc/passwd"})
    with pytest.raises(DanqingError, match="unknown adapter 'nothing'"):
        studio.submit("me", "paint", {**PROMPT, "prompt": "a <lora:nothing:1> cat"})
    (folder / "adapters").mkdir(exist_ok=True)
    (folder / "adapters" / "torn.safetensors").write_bytes(b"torn")
    row = studio.wait(studio.submit("me", "paint", {**PROMPT, "prompt": "a <lora:torn:1> cat"}))
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == "bad_weights"
    assert "torn.safetensors" in row.error["message"]


def test_other_results_than_pictures(studio: Watched) -> None:
    made = studio.wait(studio.submit("me", "paint", PROMPT))
    [picture] = studio.store.gallery.of_jobs([made.id])[made.id]
    row = studio.wait(studio.submit("me", "describe", {"image": picture, "model": "tiny"}))
    assert row.result is not None
    assert len(row.result["lines"]) == 4
    row = studio.wait(studio.submit("me", "score", {"pictures": [picture], "words": "a cat"}))
    assert row.result is not None
    assert row.result["rows"][0]["file"] == picture
    row = studio.wait(studio.submit("me", "redraw", {"image": picture, **PROMPT, "steps": 4}))
    child = studio.store.browser.page(Filter("me", job=row.id))[0]
    assert (child.parent, child.app) == (picture, "redraw")
    assert child.info["inputs"]["image"] == picture
    film = {"prompt": "a cat", "model": "tiny", "frames": 3, "steps": 2, "native": True, "seed": 1}
    row = studio.wait(studio.submit("me", "animate", film))
    assert row.error is None
    assert studio.store.browser.page(Filter("me", job=row.id))[0].format == "webp"


def test_pictures_are_searched_by_meaning(studio: Watched) -> None:
    studio.wait(studio.submit("me", "paint", PROMPT))
    assert studio.search("red apple", Filter("me", limit=1))[0].by == "words"
    pictures = studio.store.browser.page(Filter("me"))
    vector = studio.pool.embed("words", "红色的苹果")
    assert vector is not None
    assert len(studio.store.browser.by_meaning(vector, Filter("me"))) == len(pictures)
    assert studio.like(pictures[0].id, Filter("me"))


def test_a_folder_has_one_server(studio: Watched, folder: Path) -> None:
    assert studio.pool.workers == 1
    with pytest.raises(DanqingError, match="another danqing"):
        Studio(StudioOptions(folder))
