"""What clients want to know of, in the order in which it was committed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from danqing.studio.tables import EventRow

_KEPT = 24 * 3600.0  # seconds


def add_event(
    session: Session, owner: str, kind: str, subject: str, job: str | None = None, *, last: bool = False
) -> None:
    """Note, in the transaction of `session`, that something happened to the job or picture `subject`."""
    session.add(EventRow(owner=owner, kind=kind, subject=subject, job=job, last=last, created=time.time()))


def events_after(session: Session, number: int, limit: int = 1000) -> Sequence[EventRow]:
    """The events behind `number`, oldest first."""
    query = select(EventRow).where(EventRow.number > number).order_by(EventRow.number).limit(limit)
    return session.scalars(query).all()


def last_event(session: Session) -> int:
    """The number of the newest event; 0 where there was none."""
    return session.scalar(select(func.max(EventRow.number))) or 0


def last_event_of(session: Session, job: str) -> int:
    """The number of the newest event of a job; 0 where there is none."""
    return session.scalar(select(func.max(EventRow.number)).where(EventRow.job == job)) or 0


def forget_events(session: Session) -> None:
    """Drop those that nobody will come back for."""
    session.execute(delete(EventRow).where(EventRow.created < time.time() - _KEPT))
