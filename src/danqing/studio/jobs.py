"""The queue: jobs that outlive every process.

A worker claims a job in a transaction that excludes all other writers, and gets a token, one more than the
last. Each write of a result proves that the token is still the newest, so a worker that was thought dead
cannot write a second result. A claim holds for `LEASE` seconds from its last heartbeat.

Fair between owners (start-time fair queuing): the k-th waiting job of an owner has turn k, counted from the
turn that is being served, and jobs start in the order of turns.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from danqing.studio.database import Database
from danqing.studio.errors import Conflict, NotThere, QueueFull, record
from danqing.studio.events import add_event
from danqing.studio.ids import new_id
from danqing.studio.tables import JobRow

LEASE = 30.0  # seconds
DEATHS_MAX = 2  # of workers at one job
CLAIMS_MAX = 8  # with restarts of the server, whose cause nobody knows
STATES = ("queued", "running", "done", "failed", "cancelled")
OVER = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Limits:
    """How many jobs may wait: in all, and of one owner."""

    waiting: int = 20_000
    waiting_per_user: int = 1000
    waiting_per_guest: int = 8


@dataclass(frozen=True)
class NewJob:
    """What is wanted of an app. inputs: checked, with the seed fixed. key: a client's own name for it."""

    app: str
    model: str
    inputs: dict[str, Any]
    expected: int | None = None
    notes: list[str] = field(default_factory=list)
    key: str | None = None


@dataclass(frozen=True)
class Claim:
    """A worker's right to work on a job and to write its result."""

    job: str
    token: int
    owner: str
    app: str
    inputs: dict[str, Any]


class LostClaim(Exception):  # noqa: N818
    """Another worker has the job now, or nobody needs it any more: drop the work."""


class Queue:
    """The jobs of a database."""

    def __init__(self, database: Database, limits: Limits = Limits()) -> None:
        self._database, self.limits = database, limits

    def submit(self, owner: str, request: NewJob, *, guest: bool = False) -> JobRow:
        """Put a request at the end of its owner's jobs; one with a known key is the job that it was.

        Raises:
            QueueFull: too many wait.
        """
        with self._database.write() as session:
            if request.key is not None:
                query = select(JobRow).where(JobRow.owner == owner, JobRow.key == request.key)
                if (known_job := session.scalar(query)) is not None:
                    return known_job
            self._check_limits(session, owner, guest)
            job = JobRow(
                id=new_id(),
                owner=owner,
                key=request.key,
                app=request.app,
                model=request.model,
                inputs=request.inputs,
                expected=request.expected,
                notes=request.notes,
                state="queued",
                turn=_next_turn(session, owner),
                created=time.time(),
            )
            session.add(job)
            add_event(session, owner, "job", job.id, job.id)
        return job

    def get(self, owner: str, job: str) -> JobRow:
        """A job of an owner. Raises NotThere."""
        with self._database.read() as session:
            return _job_of(session, owner, job)

    def owner_of(self, job: str) -> str | None:
        """Whose job it is; None if there is none."""
        with self._database.read() as session:
            return session.scalar(select(JobRow.owner).where(JobRow.id == job))

    def page(
        self,
        owner: str,
        *,
        states: Iterable[str] = (),
        app: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> Sequence[JobRow]:
        """Jobs of an owner, newest first. states: all if empty. before: an id."""
        query = select(JobRow).where(JobRow.owner == owner).order_by(JobRow.id.desc()).limit(limit)
        if states := list(states):
            query = query.where(JobRow.state.in_(states))
        if app is not None:
            query = query.where(JobRow.app == app)
        if before is not None:
            query = query.where(JobRow.id < before)
        with self._database.read() as session:
            return session.scalars(query).all()

    def cancel(self, owner: str, job: str) -> JobRow:
        """Cancel a waiting job at once; ask the worker of a running one to stop.

        Raises:
            NotThere: no such job. Conflict: it is over.
        """
        with self._database.write() as session:
            row = _job_of(session, owner, job)
            if row.state in OVER:
                raise Conflict(f"job {job} is {row.state} already: there is nothing to cancel")
            if row.state == "queued":
                _end(session, row, "cancelled")
            else:
                row.cancelling = True
                add_event(session, owner, "job", job, job)
        return row

    def claim(self, worker: str) -> Claim | None:
        """The job whose turn it is, for `worker`; None if none waits."""
        with self._database.write() as session:
            query = select(JobRow).where(JobRow.state == "queued").order_by(JobRow.turn, JobRow.id).limit(1)
            row = session.scalar(query)
            if row is None:
                return None
            row.state, row.worker = "running", worker
            row.token, row.claims = row.token + 1, row.claims + 1
            row.lease, row.started = time.time() + LEASE, time.time()
            add_event(session, row.owner, "job", row.id, row.id)
            return Claim(row.id, row.token, row.owner, row.app, row.inputs)

    def begin(self, claim: Claim) -> None:
        """The model is open and the work begins: what it takes is counted from here. Raises LostClaim."""
        with self._database.write() as session:
            row_of_claim(session, claim).started = time.time()

    def heartbeat(self, claim: Claim) -> bool:
        """Keep a claim; returns whether the job shall be cancelled. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            row.lease = time.time() + LEASE
            return row.cancelling

    def finish(self, claim: Claim, result: dict[str, Any] | None = None) -> None:
        """The job is done, if it is still this claim's. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            row.result = result
            _end(session, row, "done")

    def fail(self, claim: Claim, error: dict[str, Any]) -> None:
        """The job has failed, as `error` tells. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            row.error = error
            _end(session, row, "failed")

    def stop(self, claim: Claim) -> None:
        """The work of a job that was to be cancelled has stopped. Raises LostClaim."""
        with self._database.write() as session:
            _end(session, row_of_claim(session, claim), "cancelled")

    def give_back(self, claim: Claim) -> None:
        """The worker stops before the job is done; it waits for its turn again. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            row.claims -= 1
            _requeue(session, row)

    def add_notes(self, claim: Claim, notes: Sequence[str], expected: int | None) -> None:
        """What a worker learned about a request. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            more = [note for note in notes if note not in row.notes]
            if more or row.expected != expected:
                row.notes, row.expected = [*row.notes, *more], expected
                add_event(session, row.owner, "job", row.id, row.id)

    def release(self, worker: str) -> int:
        """`worker` has died: its job waits again, or fails after the second death. Returns how many."""
        return self._lose(JobRow.worker == worker, deaths=1)

    def expire(self) -> int:
        """As `release`, for all jobs whose worker has not been heard of for `LEASE` seconds."""
        return self._lose(JobRow.lease < time.time(), deaths=1)

    def recover(self) -> int:
        """All workers are gone, since the server began anew: what was running waits again."""
        return self._lose(JobRow.state == "running", deaths=0)

    def cancel_all(self, owner: str) -> list[str]:
        """End all jobs of an owner; whoever works at one is too late. Returns their ids."""
        with self._database.write() as session:
            query = select(JobRow).where(JobRow.owner == owner, JobRow.state.in_(("queued", "running")))
            rows = session.scalars(query).all()
            for row in rows:
                row.token += 1
                _end(session, row, "cancelled")
        return [row.id for row in rows]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._database.read() as session:
            rows = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state)).all()
        return {**dict.fromkeys(STATES, 0), **dict(rows)}

    def _lose(self, which: Any, deaths: int) -> int:
        with self._database.write() as session:
            rows = session.scalars(select(JobRow).where(which, JobRow.state == "running")).all()
            for row in rows:
                row.deaths += deaths
                row.token += 1  # whoever still works on it is too late
                if row.cancelling:
                    _end(session, row, "cancelled")
                elif row.deaths >= DEATHS_MAX or row.claims >= CLAIMS_MAX:
                    row.error = record(
                        "worker_died",
                        f"the worker died at this job {row.deaths} times: ask for something smaller",
                    )
                    _end(session, row, "failed")
                else:
                    _requeue(session, row)
            return len(rows)

    def _check_limits(self, session: Session, owner: str, guest: bool) -> None:
        limits = self.limits
        waiting = select(func.count()).where(JobRow.state == "queued")
        for count, limit, who in (
            (
                session.scalar(waiting.where(JobRow.owner == owner)) or 0,
                limits.waiting_per_guest if guest else limits.waiting_per_user,
                "you have",
            ),
            (session.scalar(waiting) or 0, limits.waiting, "there are"),
        ):
            if count >= limit:
                raise QueueFull(f"{who} {count} jobs waiting: try again when some are done", 10)


def row_of_claim(session: Session, claim: Claim) -> JobRow:
    """The row of a claim. Raises LostClaim: the job is another's now, or over."""
    row = session.get(JobRow, claim.job)
    if row is None or row.token != claim.token or row.state != "running":
        raise LostClaim(claim.job)
    return row


def _job_of(session: Session, owner: str, job: str) -> JobRow:
    row = session.get(JobRow, job)
    if row is None or row.owner != owner:
        raise NotThere(f"no job {job!r}: check the id")
    return row


def _end(session: Session, row: JobRow, state: str) -> None:
    row.state, row.finished, row.cancelling = state, time.time(), False
    row.lease = row.worker = None
    add_event(session, row.owner, "job", row.id, row.id, last=True)


def _requeue(session: Session, row: JobRow) -> None:
    row.state = "queued"
    row.lease = row.worker = row.started = None
    add_event(session, row.owner, "job", row.id, row.id)


def _next_turn(session: Session, owner: str) -> int:
    """Behind the owner's other jobs, and behind what is being served."""
    mine = select(func.max(JobRow.turn)).where(JobRow.owner == owner)
    turns = [session.scalar(mine.where(JobRow.state == state)) for state in ("queued", "running")]
    begun = select(func.max(JobRow.turn))
    turns += [session.scalar(begun.where(JobRow.state == state)) for state in ("running", "done", "failed")]
    return max(turn or 0 for turn in turns) + 1
