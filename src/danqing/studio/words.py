"""Searching texts by words, in English and Chinese, with SQLite's FTS5."""

from __future__ import annotations

import re

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from danqing.studio.tables import PictureRow

_HAN = re.compile(r"([\u3400-\u9fff\uf900-\ufaff])")
_WORD = re.compile(r"[^\W_]+", re.UNICODE)


def index_words(session: Session, number: int, words: str) -> None:
    """Make the picture `number` findable by `words`."""
    session.execute(
        text("INSERT INTO words (rowid, text) VALUES (:number, :text)"),
        {"number": number, "text": _split(words)},
    )


def forget_words(session: Session, number: int) -> None:
    """Undo `index_words`."""
    session.execute(text("DELETE FROM words WHERE rowid = :number"), {"number": number})


def with_words(query: Select[PictureRow], words: str) -> Select[PictureRow]:
    """The pictures of `query` whose words have all of `words`; a word may go on."""
    hits = select(text("rowid")).select_from(text("words")).where(text("words MATCH :match"))
    return query.where(PictureRow.number.in_(hits.params(match=_match(words)).scalar_subquery()))


def _split(words: str) -> str:
    """Chinese has no spaces between words, so each of its characters is a word to FTS5."""
    return _HAN.sub(r" \1 ", words)


def _match(words: str) -> str:
    """FTS5's query: each word, and each run of Chinese as a phrase; quoted, so none is an operator."""
    runs = [" ".join(_WORD.findall(_split(run))) for run in _WORD.findall(words)]
    return " ".join(f'"{run}" *' for run in runs if run) or '""'
