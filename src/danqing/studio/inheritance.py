"""Transfers everything that one owner has made to another."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from danqing.studio.boards import hand_over_boards
from danqing.studio.tables import EventRow, JobRow, PictureRow, UploadRow


def hand_over(session: Session, old: str, new: str) -> None:
    """Make `new` the owner of all that `old` owns: jobs, pictures, boards and uploads.

    It runs in the transaction of `session`. An upload that both have is kept once. The jobs' idempotency
    keys are removed: they belong to the old owner's programs.
    """
    kept = select(UploadRow.id).where(UploadRow.owner == new)
    session.execute(delete(UploadRow).where(UploadRow.owner == old, UploadRow.id.in_(kept)))
    session.execute(update(UploadRow).where(UploadRow.owner == old).values(owner=new))
    session.execute(update(JobRow).where(JobRow.owner == old).values(owner=new, key=None))
    session.execute(update(PictureRow).where(PictureRow.owner == old).values(owner=new))
    hand_over_boards(session, old, new)
    session.execute(delete(EventRow).where(EventRow.owner == old, EventRow.kind != "account"))
