"""Estimates when waiting jobs will start and finish, from the times of earlier jobs."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from sqlalchemy import select

from danqing.studio.database import Database
from danqing.studio.tables import JobRow

_SAMPLE = 200  # number of finished jobs to average over

Pace = dict[tuple[str, str], float]
"""Maps (app, model) to seconds for one picture."""


@dataclass(frozen=True)
class Place:
    """The place of a job in the queue.

    position: 0 while running, 1 for the next one to start.
    eta: seconds until it is done; None if that is unknown.
    """

    position: int
    eta: float | None


def queue_places(database: Database, paces: dict[str, float], workers: int) -> dict[str, Place]:
    """The place of every job that is not over.

    paces: job id -> seconds until it is done, measured, for running jobs that have reported progress.
    workers: number of jobs that run at once.
    """
    with database.read() as session:
        columns = (JobRow.id, JobRow.app, JobRow.model, JobRow.expected)
        done = session.execute(
            select(JobRow.app, JobRow.model, JobRow.expected, JobRow.finished - JobRow.started)
            .where(JobRow.state == "done")
            .order_by(JobRow.turn.desc())
            .limit(_SAMPLE)
        ).all()
        running = session.execute(select(*columns, JobRow.started).where(JobRow.state == "running")).all()
        waiting = session.execute(
            select(*columns).where(JobRow.state == "queued").order_by(JobRow.turn, JobRow.id)
        ).all()
    pace = _pace([((app, model), expected, seconds or 0.0) for app, model, expected, seconds in done])
    places: dict[str, Place] = {}
    ahead: float | None = 0.0
    for job, app, model, expected, start in running:
        seconds, passed = _seconds(pace, app, model, expected), time.time() - (start or time.time())
        left = _seconds_left(seconds, passed, paces.get(job))
        places[job] = Place(0, left)
        ahead = _sum(ahead, left, workers)
    for number, (job, app, model, expected) in enumerate(waiting, 1):
        seconds = _seconds(pace, app, model, expected)
        places[job] = Place(number, _sum(ahead, seconds, 1))
        ahead = _sum(ahead, seconds, workers)
    return places


def _pace(done: list[tuple[tuple[str, str], int | None, float]]) -> Pace:
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    for kind, expected, seconds in done:
        samples[kind].append(seconds / max(expected or 1, 1))
    return {kind: median(values) for kind, values in samples.items()}


def _seconds(pace: Pace, app: str, model: str, expected: int | None) -> float | None:
    each = pace.get((app, model))
    return None if each is None else each * max(expected or 1, 1)


def _seconds_left(total: float | None, passed: float, own: float | None) -> float | None:
    """Seconds until a running job is done: measured (`own`), or if there is no measurement estimated."""
    if own is not None:
        return round(own, 1)
    return None if total is None else round(max(total - passed, 0.0), 1)


def _sum(ahead: float | None, seconds: float | None, workers: int) -> float | None:
    return None if ahead is None or seconds is None else round(ahead + seconds / max(workers, 1), 1)
