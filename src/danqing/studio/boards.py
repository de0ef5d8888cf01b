"""Boards: named collections of pictures. A picture may be on several boards, and stays in the gallery."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from danqing.core.errors import BadBrief
from danqing.studio.database import Database
from danqing.studio.errors import Conflict, NotThere
from danqing.studio.ids import new_id
from danqing.studio.tables import BoardPictureRow, BoardRow, PictureRow

NAME_MAX = 60  # characters
BOARDS_MAX = 500  # boards of one owner


@dataclass(frozen=True)
class Board:
    """A board with its summary.

    created: seconds since 1970.
    count: number of its pictures that are not in the trash.
    cover: id of the newest of them; None if there is none.
    """

    id: str
    name: str
    created: float
    count: int
    cover: str | None


class Boards:
    """The boards of all owners. An owner sees no boards of others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, owner: str) -> list[Board]:
        """All boards of an owner, by name."""
        with self._database.read() as session:
            return _boards(session, BoardRow.owner == owner)

    def get(self, owner: str, board: str) -> Board:
        """A board of an owner. Raises NotThere."""
        with self._database.read() as session:
            _board_of(session, owner, board)
            return _boards(session, BoardRow.id == board)[0]

    def add(self, owner: str, name: str) -> Board:
        """Add an empty board.

        Raises:
            BadBrief: the name is empty or too long.
            Conflict: the name is taken, or there are too many boards.
        """
        row = BoardRow(id=new_id(), owner=owner, name=_check_name(name), created=time.time())
        try:
            with self._database.write() as session:
                count = select(func.count()).select_from(BoardRow).where(BoardRow.owner == owner)
                if (session.scalar(count) or 0) >= BOARDS_MAX:
                    raise Conflict(f"there are {BOARDS_MAX} boards: delete one first")
                session.add(row)
        except IntegrityError:
            raise _exists(row.name) from None
        return self.get(owner, row.id)

    def rename(self, owner: str, board: str, name: str) -> Board:
        """Rename a board. Raises NotThere; BadBrief: a bad name; Conflict: the name is taken."""
        name = _check_name(name)
        try:
            with self._database.write() as session:
                _board_of(session, owner, board).name = name
        except IntegrityError:
            raise _exists(name) from None
        return self.get(owner, board)

    def delete(self, owner: str, board: str) -> None:
        """Delete a board; its pictures stay. Raises NotThere."""
        with self._database.write() as session:
            session.delete(_board_of(session, owner, board))

    def delete_all(self, owner: str) -> None:
        """Delete all boards of an owner; the pictures stay."""
        with self._database.write() as session:
            session.execute(delete(BoardRow).where(BoardRow.owner == owner))

    def put(self, owner: str, board: str, picture: str) -> Board:
        """Add a picture to a board; does nothing if it is there already. Raises NotThere."""
        with self._database.write() as session:
            _board_of(session, owner, board)
            if not session.scalar(
                select(exists().where(PictureRow.id == picture, PictureRow.owner == owner))
            ):
                raise NotThere(f"no picture {picture!r}: check the id")
            if session.get(BoardPictureRow, (board, picture)) is None:
                session.add(BoardPictureRow(board=board, picture=picture))
        return self.get(owner, board)

    def take(self, owner: str, board: str, picture: str) -> Board:
        """Remove a picture from a board, if it is there. Raises NotThere: there is no such board."""
        with self._database.write() as session:
            _board_of(session, owner, board)
            row = session.get(BoardPictureRow, (board, picture))
            if row is not None:
                session.delete(row)
        return self.get(owner, board)

    def of_picture(self, picture: str) -> Sequence[str]:
        """The ids of the boards that a picture is on."""
        query = select(BoardPictureRow.board).where(BoardPictureRow.picture == picture)
        with self._database.read() as session:
            return session.scalars(query.order_by(BoardPictureRow.board)).all()


def hand_over_boards(session: Session, old: str, new: str) -> None:
    """Make `new` the owner of all boards of `old`; two boards with the same name are merged."""
    theirs = {row.name: row.id for row in session.scalars(select(BoardRow).where(BoardRow.owner == new))}
    for row in session.scalars(select(BoardRow).where(BoardRow.owner == old)).all():
        if row.name not in theirs:
            row.owner = new
            continue
        query = select(BoardPictureRow.picture).where(BoardPictureRow.board == row.id)
        for picture in session.scalars(query).all():
            session.merge(BoardPictureRow(board=theirs[row.name], picture=picture))
        session.delete(row)


def _boards(session: Session, which: ColumnElement[bool]) -> list[Board]:
    """The boards that fulfil a condition, with their summaries, by name."""
    visible = PictureRow.trashed.is_(None) & PictureRow.missing.is_(False)
    query = (
        select(BoardRow, func.count(PictureRow.id), func.max(PictureRow.id))
        .outerjoin(BoardPictureRow, BoardPictureRow.board == BoardRow.id)
        .outerjoin(PictureRow, (PictureRow.id == BoardPictureRow.picture) & visible)
        .where(which)
        .group_by(BoardRow.id)
        .order_by(func.lower(BoardRow.name), BoardRow.id)
    )
    rows = session.execute(query).all()
    return [Board(row.id, row.name, row.created, count, cover) for row, count, cover in rows]


def _board_of(session: Session, owner: str, board: str) -> BoardRow:
    row = session.get(BoardRow, board)
    if row is None or row.owner != owner:
        raise NotThere(f"no board {board!r}: check the id")
    return row


def _check_name(name: str) -> str:
    """The name without surrounding white space. Raises BadBrief: it is empty or too long."""
    name = " ".join(name.split())
    if not name or len(name) > NAME_MAX:
        raise BadBrief(f"a board's name has {len(name)} letters: use 1 to {NAME_MAX}", "name")
    return name


def _exists(name: str) -> Conflict:
    return Conflict(f"there is a board {name!r}: choose another name")
