"""The tables of the studio. Times are seconds since 1970; JSON columns hold what the API shows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

VERSION = 3
"""Of the schema; kept in the database as SQLite's `user_version`."""


class Table(DeclarativeBase):
    """The base of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, bytes: LargeBinary}  # noqa: RUF012


class UserRow(Table):
    """An account. id: what its jobs and pictures have as their owner. password: as argon2 hashed it."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    password: Mapped[str]
    created: Mapped[float]


class TokenRow(Table):
    """A secret by which an account is known; only its SHA-256 is kept.

    kind: token for programs, login for a browser. label: what its owner calls it. expires: None is never.
    """

    __tablename__ = "tokens"
    __table_args__ = (Index("tokens_by_user", "user"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    label: Mapped[str]
    created: Mapped[float]
    expires: Mapped[float | None]


class JobRow(Table):
    """A request and what became of it.

    key: the client's Idempotency-Key.
    turn: the order of starting, fair between owners; see `jobs`.
    token: the number of the last claim; whoever writes with an older one is too late.
    lease: until when the claim holds without a heartbeat.
    claims: how often a worker has begun. deaths: how many of these workers died at it.
    expected: how many pictures it will make; None if unknown.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("owner", "key"),
        Index("jobs_by_turn", "state", "turn", "id"),
        Index("jobs_by_owner", "owner", "id"),
        Index("jobs_by_owner_and_turn", "owner", "state", "turn"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    key: Mapped[str | None]
    app: Mapped[str]
    model: Mapped[str]
    inputs: Mapped[dict[str, Any]]
    state: Mapped[str]
    cancelling: Mapped[bool] = mapped_column(default=False)
    turn: Mapped[int]
    token: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease: Mapped[float | None]
    claims: Mapped[int] = mapped_column(default=0)
    deaths: Mapped[int] = mapped_column(default=0)
    expected: Mapped[int | None]
    notes: Mapped[list[str]] = mapped_column(default=list)
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created: Mapped[float]
    started: Mapped[float | None]
    finished: Mapped[float | None]


class PictureRow(Table):
    """A picture of the gallery: a file below `pictures/`, and its thumbnail.

    number: counts pictures in the order in which they were committed.
    pixels: `core.source_image.picture_id` of its image, by which metadata names a parent.
    root: the first picture of its tree. sources: the pictures and uploads that its job started from.
    vector: CLIP's embedding of length 1 in float16; None where there was no CLIP.
    missing: its file was not there at the last sweep.
    """

    __tablename__ = "pictures"
    __table_args__ = (
        UniqueConstraint("job", "index"),
        Index("pictures_by_owner", "owner", "id"),
        Index("pictures_by_root", "root"),
        Index("pictures_by_parent", "parent"),
        Index("pictures_by_pixels", "owner", "pixels"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    owner: Mapped[str]
    job: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    index: Mapped[int]
    app: Mapped[str]
    model: Mapped[str]
    prompt: Mapped[str]
    seed: Mapped[int | None]
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str]
    size: Mapped[int]
    file: Mapped[str]
    created: Mapped[float]
    star: Mapped[bool] = mapped_column(default=False)
    trashed: Mapped[float | None]
    missing: Mapped[bool] = mapped_column(default=False)
    pixels: Mapped[str]
    parent: Mapped[str | None]
    root: Mapped[str]
    sources: Mapped[list[str]] = mapped_column(default=list)
    brief: Mapped[dict[str, Any]]
    info: Mapped[dict[str, Any]]
    vector: Mapped[bytes | None] = mapped_column(LargeBinary)

    @property
    def is_film(self) -> bool:
        """Whether it moves: films are WebP, which of danqing's own pictures no other is."""
        return self.format == "webp" and self.app != "import"


class BoardRow(Table):
    """A collection of pictures that its owner has named."""

    __tablename__ = "boards"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    created: Mapped[float]


class BoardPictureRow(Table):
    """That a picture is on a board; it ends with either of them."""

    __tablename__ = "board_pictures"
    __table_args__ = (Index("board_pictures_by_picture", "picture"),)

    board: Mapped[str] = mapped_column(ForeignKey("boards.id", ondelete="CASCADE"), primary_key=True)
    picture: Mapped[str] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"), primary_key=True)


class UploadRow(Table):
    """What someone gave to start from. The id is made of the content, so the same bytes are kept once."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(primary_key=True)
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str]
    size: Mapped[int]
    created: Mapped[float]
    pixels: Mapped[str]
    notes: Mapped[list[str]] = mapped_column(default=list)
    brief: Mapped[dict[str, Any] | None]


class EventRow(Table):
    """Something that clients want to know of; kept for a day, so that a client can come back.

    kind: job, picture, gallery or account. subject: the id of what it is about. last: the job is over.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("events_by_time", "created"),
        Index("events_by_job", "job", "number"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    kind: Mapped[str]
    job: Mapped[str | None]
    subject: Mapped[str]
    last: Mapped[bool] = mapped_column(default=False)
    created: Mapped[float]
