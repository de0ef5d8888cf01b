"""Lists of pictures in the gallery, and searches by text and by CLIP embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Select, select

from danqing.studio.database import Database
from danqing.studio.tables import BoardPictureRow, PictureRow
from danqing.studio.vectors import Vector, VectorIndex
from danqing.studio.words import with_words

_NEAR = 0.2  # least cosine of a picture that shows the searched thing
_LOOK = 20  # so many times the wanted number of neighbours is fetched, since filters drop some


@dataclass(frozen=True)
class Filter:
    """Conditions for pictures; None allows all.

    owner: id of their owner.
    app: name of the app that made them.
    model: name of the model.
    job: id of their job.
    star: whether they have a star.
    board: id of a board that they are on.
    trash: whether they are in the trash.
    before: id of the last picture on the previous page.
    limit: most pictures to return.
    """

    owner: str
    app: str | None = None
    model: str | None = None
    job: str | None = None
    star: bool | None = None
    board: str | None = None
    trash: bool = False
    before: str | None = None
    limit: int = 50

    def query(self) -> Select[PictureRow]:
        """The database query, newest pictures first."""
        query = select(PictureRow).where(PictureRow.owner == self.owner, PictureRow.missing.is_(False))
        for name in ("app", "model", "job", "star"):
            if (value := getattr(self, name)) is not None:
                query = query.where(getattr(PictureRow, name) == value)
        if self.board is not None:
            on_board = select(BoardPictureRow.picture).where(BoardPictureRow.board == self.board)
            query = query.where(PictureRow.id.in_(on_board))
        trashed = PictureRow.trashed
        query = query.where(trashed.is_not(None) if self.trash else trashed.is_(None))
        if self.before is not None:
            query = query.where(PictureRow.id < self.before)
        return query.order_by(PictureRow.id.desc()).limit(self.limit)


@dataclass(frozen=True)
class Match:
    """A search result.

    row: the picture.
    score: cosine of its embedding; None for a match of words.
    by: "words" or "meaning".
    """

    row: PictureRow
    score: float | None
    by: str


class Browser:
    """Lists and searches the pictures of a database."""

    def __init__(self, database: Database) -> None:
        self._database, self._vectors = database, VectorIndex(database)

    def page(self, which: Filter) -> Sequence[PictureRow]:
        """The pictures that fulfil the conditions, newest first."""
        with self._database.read() as session:
            return session.scalars(which.query()).all()

    def by_words(self, words: str, which: Filter) -> list[Match]:
        """The pictures whose prompts contain all of the words, newest first."""
        with self._database.read() as session:
            return [Match(row, None, "words") for row in session.scalars(with_words(which.query(), words))]

    def by_meaning(self, vector: Vector, which: Filter, *, least: float = -1.0) -> list[Match]:
        """The pictures whose cosine with `vector` is at least `least`, the nearest first."""
        hits = {
            number: score
            for number, score in self._vectors.nearest(vector, _LOOK * which.limit)
            if score >= least
        }
        query = replace(which, limit=len(hits) or 1).query().where(PictureRow.number.in_(hits))
        with self._database.read() as session:
            matches = [Match(row, hits[row.number], "meaning") for row in session.scalars(query)]
        return sorted(matches, key=lambda match: -(match.score or 0.0))[: which.limit]

    def search(self, words: str, vector: Vector | None, which: Filter) -> list[Match]:
        """The pictures whose prompts contain the words, then those whose embeddings are near to `vector`."""
        matches = self.by_words(words, which)
        if vector is not None and len(matches) < which.limit:
            ids = {match.row.id for match in matches}
            near = self.by_meaning(vector, which, least=_NEAR)
            matches += [match for match in near if match.row.id not in ids]
        return matches[: which.limit]
