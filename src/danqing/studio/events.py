"""Events for clients, in the order of their transactions."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from danqing.studio.tables import EventRow

_KEPT = 24 * 3600.0  # seconds for which events are stored


def add_event(
    session: Session, owner: str, kind: str, subject: str, job: str | None = None, *, last: bool = False
) -> None:
    """Add an event about the job or picture `subject`, in the transaction of `session`."""
    session.add(EventRow(owner=owner, kind=kind, subject=subject, job=job, last=last, created=time.time()))


def events_after(session: Session, number: int, limit: int = 1000) -> Sequence[EventRow]:
    """The events after the one numbered `number`, oldest first."""
    query = select(EventRow).where(EventRow.number > number).order_by(EventRow.number).limit(limit)
    return session.scalars(query).all()


def last_event(session: Session) -> int:
    """The number of the newest event; 0 if there is none."""
    return session.scalar(select(func.max(EventRow.number))) or 0


def last_event_of(session: Session, job: str) -> int:
    """The number of the newest event of a job; 0 if there is none."""
    return session.scalar(select(func.max(EventRow.number)).where(EventRow.job == job)) or 0


def forget_events(session: Session) -> None:
    """Delete events that are older than a day."""
    session.execute(delete(EventRow).where(EventRow.created < time.time() - _KEPT))
