"""The queue: nothing is lost, nothing is done twice, nobody waits for one who asks for much."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from danqing.core.progress import Progress
from danqing.studio import jobs
from danqing.studio.database import Database
from danqing.studio.errors import Conflict, NotThere, QueueFull
from danqing.studio.events import events_after
from danqing.studio.frames import Frame, FrameThrottle
from danqing.studio.jobs import Claim, Limits, LostClaim, NewJob, Queue
from danqing.studio.queue_places import Place, queue_places
from danqing.studio.tables import VERSION

PAINT = NewJob("paint", "stickers", {"prompt": "a cat", "seed": 1}, expected=1)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "studio.db")


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


def claim(queue: Queue, worker: str = "w") -> Claim:
    claimed = queue.claim(worker)
    assert claimed is not None
    return claimed


def test_a_job_is_claimed_done_and_told(queue: Queue, database: Database) -> None:
    job = queue.submit("me", PAINT)
    assert (job.state, job.turn) == ("queued", 1)
    work = claim(queue)
    assert (work.job, work.inputs) == (job.id, PAINT.inputs)
    assert queue.claim("other") is None
    assert queue.heartbeat(work) is False
    queue.finish(work, {"lines": ["x"]})
    row = queue.get("me", job.id)
    assert (row.state, row.result) == ("done", {"lines": ["x"]})
    assert row.created <= (row.started or 0) <= (row.finished or 0)
    with database.read() as session:
        events = events_after(session, 0)
    assert [(event.number, event.kind, event.subject) for event in events] == [
        (n, "job", job.id) for n in (1, 2, 3)
    ]
    with pytest.raises(LostClaim):
        queue.fail(work, {})


def test_a_late_worker_is_fenced_off(queue: Queue) -> None:
    job = queue.submit("me", PAINT)
    late = claim(queue, "late")
    assert queue.release("late") == 1
    again = claim(queue, "second")
    assert again.token > late.token
    for write in (queue.finish, queue.stop, queue.heartbeat, queue.give_back):
        with pytest.raises(LostClaim):
            write(late)
    queue.finish(again)
    assert queue.get("me", job.id).state == "done"


def test_a_worker_that_is_silent_loses_its_job(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.submit("me", PAINT)
    monkeypatch.setattr(jobs, "LEASE", -1.0)
    claim(queue)
    assert queue.expire() == 1
    assert queue.expire() == 0
    assert claim(queue).token == 3


def test_the_second_death_is_the_last(queue: Queue) -> None:
    job = queue.submit("me", PAINT)
    for _ in range(2):
        claim(queue)
        queue.release("w")
    row = queue.get("me", job.id)
    assert row.state == "failed"
    assert row.error is not None
    assert row.error["code"] == "worker_died"
    assert queue.claim("w") is None


def test_a_restart_of_the_server_is_nobodys_fault(queue: Queue) -> None:
    job = queue.submit("me", PAINT)
    for _ in range(jobs.CLAIMS_MAX - 1):
        claim(queue)
        assert queue.recover() == 1
        assert queue.get("me", job.id).state == "queued"
    for _ in range(20):  # a worker that was told to end has done nothing wrong either
        queue.give_back(claim(queue))
    claim(queue)
    queue.recover()
    assert queue.get("me", job.id).state == "failed"  # something always kills it


def test_cancelling(queue: Queue) -> None:
    waiting, running = queue.submit("me", PAINT), None
    assert queue.cancel("me", waiting.id).state == "cancelled"
    assert queue.claim("w") is None
    running = queue.submit("me", PAINT)
    work = claim(queue)
    assert queue.cancel("me", running.id).cancelling
    assert queue.heartbeat(work) is True
    queue.stop(work)
    assert queue.get("me", running.id).state == "cancelled"
    with pytest.raises(Conflict, match="cancelled already"):
        queue.cancel("me", running.id)
    with pytest.raises(NotThere):
        queue.cancel("you", running.id)
    queue.submit("me", PAINT)
    work = claim(queue)
    queue.cancel("me", work.job)
    queue.release("w")  # it died instead of stopping
    assert queue.get("me", work.job).state == "cancelled"


def test_cancel_and_finish_never_both_win(queue: Queue) -> None:
    for _ in range(60):
        job = queue.submit("me", PAINT)
        seen: list[Any] = []
        work = claim(queue)

        def finish(work: Claim = work) -> None:
            queue.finish(work)

        def cancel(job: str = job.id, seen: list[str] = seen) -> None:
            try:
                seen.append("cancelling" if queue.cancel("me", job).cancelling else "?")
            except Conflict:
                seen.append("late")

        threads = [Thread(target=finish), Thread(target=cancel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert queue.get("me", job.id).state == "done"
        assert seen in (["cancelling"], ["late"])


def test_owners_take_turns(queue: Queue) -> None:
    owners = [f"user {n}" for n in range(10)]
    for owner in owners[:5]:
        for _ in range(6):
            queue.submit(owner, PAINT)
    for owner in owners[5:]:  # who comes later waits no longer
        for _ in range(6):
            queue.submit(owner, PAINT)
    order = []
    while (work := queue.claim("w")) is not None:
        order.append(work.owner)
        queue.finish(work)
    starts: Counter[str] = Counter()
    for owner in order:
        starts[owner] += 1
        assert starts[owner] <= min(starts[other] for other in owners) + 1
    queue.submit("new", PAINT)
    assert queue.get("new", claim(queue).job).turn == 7  # nobody is put behind for having come late


def test_a_key_makes_a_request_once(queue: Queue) -> None:
    request = NewJob("paint", "stickers", {"prompt": "a"}, key="k1")
    assert queue.submit("me", request).id == queue.submit("me", request).id
    assert queue.submit("you", request).id != queue.submit("me", request).id


def test_a_full_queue_says_so(database: Database) -> None:
    queue = Queue(database, Limits(waiting=3, waiting_per_user=2))
    queue.submit("me", PAINT)
    queue.submit("me", PAINT)
    with pytest.raises(QueueFull, match="you have 2"):
        queue.submit("me", PAINT)
    queue.submit("you", PAINT)
    with pytest.raises(QueueFull, match="there are 3") as error:
        queue.submit("her", PAINT)
    assert error.value.seconds > 0


def drain(path: Path, name: str, done: multiprocessing.SimpleQueue) -> None:  # type: ignore[type-arg]
    queue, claimed = Queue(Database(path)), []
    while (work := queue.claim(name)) is not None:
        claimed.append(work.job)
        queue.finish(work)
    done.put(claimed)


def test_processes_race_for_jobs_and_each_is_claimed_once(queue: Queue, database: Database) -> None:
    wanted = {queue.submit(f"user {n % 3}", PAINT).id for n in range(120)}
    context = multiprocessing.get_context("spawn")
    done = context.SimpleQueue()
    workers = [context.Process(target=drain, args=(database.path, f"w{n}", done)) for n in range(3)]
    for worker in workers:
        worker.start()
    claimed = [job for _ in workers for job in done.get()]
    for worker in workers:
        worker.join()
    assert len(claimed) == 120
    assert set(claimed) == wanted


def test_the_outlook_is_honest(queue: Queue, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    first = queue.submit("me", PAINT)
    assert queue_places(database, {}, 1)[first.id].eta is None  # nothing is known yet
    work = claim(queue)
    clock[0] += 8
    queue.finish(work)
    one = queue.submit("me", PAINT)
    two = queue.submit("me", NewJob("paint", "stickers", {}, expected=4))
    other = queue.submit("me", NewJob("learn", "stickers", {}))
    places = queue_places(database, {}, 1)
    assert [(places[job.id].position, places[job.id].eta) for job in (one, two, other)] == [
        (1, 8),
        (2, 40),
        (3, None),
    ]
    claim(queue)
    clock[0] += 2
    assert queue_places(database, {}, 1)[one.id].eta == 6  # by what such jobs took
    assert queue_places(database, {one.id: 2.04}, 1)[one.id].eta == 2  # by its own pace
    assert queue_places(database, {one.id: 2.04}, 1)[two.id] == Place(1, 34)


def test_opening_the_model_is_no_part_of_the_pace(
    queue: Queue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    first = queue.submit("me", NewJob("paint", "stickers", {}))
    work, frames = claim(queue), list[Frame]()
    camera = FrameThrottle(work.job, frames.append)
    clock[0] += 60  # opening
    queue.begin(work)
    for step in (1, 2, 3):
        camera(Progress(step, 11))
        clock[0] += 2
    assert [frame.left for frame in frames] == [None, 18, 16]
    clock[0] += 16
    queue.finish(work)
    second = queue.submit("me", NewJob("paint", "stickers", {}))
    assert queue.get("me", first.id).started == 1060
    assert queue_places(database, {}, 1)[second.id].eta == 22


def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    from sqlalchemy import text

    from danqing.core.errors import DanqingError

    with database.write() as session:
        session.execute(text(f"PRAGMA user_version = {VERSION + 1}"))
    with pytest.raises(DanqingError, match="newer danqing"):
        Database(database.path)
