"""The queue: jobs that survive every process.

A worker claims a job in a transaction that excludes all other writers, and gets a token, one more than the
last. Each write of a result checks that the token is still the newest, so that a worker that was taken for
dead cannot write a second result. A claim is valid for `LEASE` seconds after its last heartbeat.

The queue is fair between owners (start-time fair queuing): the k-th waiting job of an owner has turn k,
counted from the turn that is being served, and jobs start in the order of turns.
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
DEATHS_MAX = 2  # workers that may die at one job
CLAIMS_MAX = 8  # claims of one job, with those that ended by a restart of the server for an unknown reason
STATES = ("queued", "running", "done", "failed", "cancelled")
OVER = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Limits:
    """How many jobs may wait: in total, for each user, and for each guest."""

    waiting: int = 20_000
    waiting_per_user: int = 1000
    waiting_per_guest: int = 8


@dataclass(frozen=True)
class NewJob:
    """A request for a job.

    inputs: the validated inputs of the app, with a fixed seed.
    expected: number of pictures that it will make; None if unknown.
    notes: remarks for the user.
    key: the client's Idempotency-Key.
    """

    app: str
    model: str
    inputs: dict[str, Any]
    expected: int | None = None
    notes: list[str] = field(default_factory=list)
    key: str | None = None


@dataclass(frozen=True)
class Claim:
    """A worker's right to do a job and to write its result.

    token: number of the claim; a later claim of the job makes it invalid.
    inputs: the validated inputs of the app.
    """

    job: str
    token: int
    owner: str
    app: str
    inputs: dict[str, Any]


class LostClaim(Exception):  # noqa: N818
    """The claim is no longer valid: another worker has the job, or it is over. Drop the work."""


class Queue:
    """The jobs of a database."""

    def __init__(self, database: Database, limits: Limits = Limits()) -> None:
        self._database, self.limits = database, limits

    def submit(self, owner: str, request: NewJob, *, guest: bool = False) -> JobRow:
        """Add a job at the end of its owner's jobs. If the key was used before, return the job of that key.

        Raises:
            QueueFull: too many jobs wait.
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
        """The owner of a job; None if there is no such job."""
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
        """Jobs of an owner, newest first.

        states: only jobs in these states; empty for all.
        before: only jobs older than the one with this id.
        """
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
            NotThere: there is no such job. Conflict: it is over.
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
        """Claim the next job for `worker`; None if no job waits."""
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
        """Record that the model is open: the time of the work is measured from now on. Raises LostClaim."""
        with self._database.write() as session:
            row_of_claim(session, claim).started = time.time()

    def heartbeat(self, claim: Claim) -> bool:
        """Renew the lease of a claim. Returns whether the job is to be cancelled. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            row.lease = time.time() + LEASE
            return row.cancelling

    def finish(self, claim: Claim, result: dict[str, Any] | None = None) -> None:
        """Record that the job is done, with its result. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            row.result = result
            _end(session, row, "done")

    def fail(self, claim: Claim, error: dict[str, Any]) -> None:
        """Record that the job has failed. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            row.error = error
            _end(session, row, "failed")

    def stop(self, claim: Claim) -> None:
        """Record that the work of a cancelled job has stopped. Raises LostClaim."""
        with self._database.write() as session:
            _end(session, row_of_claim(session, claim), "cancelled")

    def give_back(self, claim: Claim) -> None:
        """Put an unfinished job back into the queue. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            row.claims -= 1
            _requeue(session, row)

    def add_notes(self, claim: Claim, notes: Sequence[str], expected: int | None) -> None:
        """Add remarks that came up during the work, and the number of pictures. Raises LostClaim."""
        with self._database.write() as session:
            row = row_of_claim(session, claim)
            more = [note for note in notes if note not in row.notes]
            if more or row.expected != expected:
                row.notes, row.expected = [*row.notes, *more], expected
                add_event(session, row.owner, "job", row.id, row.id)

    def release(self, worker: str) -> int:
        """Let the jobs of a dead worker wait again, or fail after two deaths. Returns their number."""
        return self._lose(JobRow.worker == worker, deaths=1)

    def expire(self) -> int:
        """As `release`, for all jobs whose worker has sent no heartbeat for `LEASE` seconds."""
        return self._lose(JobRow.lease < time.time(), deaths=1)

    def recover(self) -> int:
        """Let all running jobs wait again; called when the server starts and no workers exist."""
        return self._lose(JobRow.state == "running", deaths=0)

    def cancel_all(self, owner: str) -> list[str]:
        """Cancel all jobs of an owner, and invalidate their claims. Returns their ids."""
        with self._database.write() as session:
            query = select(JobRow).where(JobRow.owner == owner, JobRow.state.in_(("queued", "running")))
            rows = session.scalars(query).all()
            for row in rows:
                row.token += 1
                _end(session, row, "cancelled")
        return [row.id for row in rows]

    def counts(self) -> dict[str, int]:
        """The number of jobs in each state."""
        with self._database.read() as session:
            rows = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state)).all()
        return {**dict.fromkeys(STATES, 0), **dict(rows)}

    def _lose(self, which: Any, deaths: int) -> int:
        with self._database.write() as session:
            rows = session.scalars(select(JobRow).where(which, JobRow.state == "running")).all()
            for row in rows:
                row.deaths += deaths
                row.token += 1  # invalidates the claim of a worker that is still busy with it
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
    """The row of a claimed job. Raises LostClaim: the claim is no longer valid."""
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
    """The turn of a new job: after the owner's other jobs, and after the turn that is being served."""
    mine = select(func.max(JobRow.turn)).where(JobRow.owner == owner)
    turns = [session.scalar(mine.where(JobRow.state == state)) for state in ("queued", "running")]
    begun = select(func.max(JobRow.turn))
    turns += [session.scalar(begun.where(JobRow.state == state)) for state in ("running", "done", "failed")]
    return max(turn or 0 for turn in turns) + 1
