"""Full-text search in English and Chinese, with SQLite's FTS5."""

from __future__ import annotations

import re

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from danqing.studio.tables import PictureRow

_HAN = re.compile(r"([\u3400-\u9fff\uf900-\ufaff])")
_WORD = re.compile(r"[^\W_]+", re.UNICODE)


def index_words(session: Session, number: int, words: str) -> None:
    """Index the words of the picture `number`."""
    session.execute(
        text("INSERT INTO words (rowid, text) VALUES (:number, :text)"),
        {"number": number, "text": _split(words)},
    )


def forget_words(session: Session, number: int) -> None:
    """Remove a picture from the index."""
    session.execute(text("DELETE FROM words WHERE rowid = :number"), {"number": number})


def with_words(query: Select[PictureRow], words: str) -> Select[PictureRow]:
    """Restrict `query` to pictures that match all of `words`.

    A word also matches longer words that begin with it.
    """
    hits = select(text("rowid")).select_from(text("words")).where(text("words MATCH :match"))
    return query.where(PictureRow.number.in_(hits.params(match=_match(words)).scalar_subquery()))


def _split(words: str) -> str:
    """The text with spaces around Chinese characters, each of which is a word to FTS5."""
    return _HAN.sub(r" \1 ", words)


def _match(words: str) -> str:
    """FTS5's query: each word, and each run of Chinese as a phrase; quoted, so that none is an operator."""
    runs = [" ".join(_WORD.findall(_split(run))) for run in _WORD.findall(words)]
    return " ".join(f'"{run}" *' for run in runs if run) or '""'
