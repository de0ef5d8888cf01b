"""The tables of the studio. Times are seconds since 1970; JSON columns contain what the API shows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

VERSION = 3
"""Version of the schema; stored in the database as SQLite's `user_version`."""


class Table(DeclarativeBase):
    """The base of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, bytes: LargeBinary}  # noqa: RUF012


class UserRow(Table):
    """An account.

    id: the owner of its jobs and pictures.
    role: a `Role`.
    password: its argon2 hash.
    """

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    password: Mapped[str]
    created: Mapped[float]


class TokenRow(Table):
    """A secret that identifies an account; only its SHA-256 is stored.

    kind: "token" for programs, "login" for a browser.
    label: the owner's name for it.
    expires: None for never.
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
    """A job: its request, state and result.

    key: the client's Idempotency-Key.
    cancelling: whether its worker has been asked to stop.
    turn: order of starting, fair between owners; see `jobs`.
    token: number of the last claim; a write with an older one is refused.
    worker: name of the worker that has claimed it.
    lease: end of the claim if there is no further heartbeat.
    claims: number of claims so far.
    deaths: number of workers that died at it.
    expected: number of pictures that it will make; None if unknown.
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

    number: counts pictures in the order of their transactions.
    trashed: when it was moved to the trash; None if it is not there.
    missing: whether its file was absent at the last sweep.
    pixels: `core.source_image.picture_id` of its image, by which metadata names a parent.
    parent: id of the picture that it was made from.
    root: id of the first picture of its tree.
    sources: ids of the pictures and uploads that its job started from.
    vector: CLIP embedding of length 1 in float16; None if there is no CLIP.
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
        """Whether it is a film: of danqing's own pictures only films are WebP."""
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
    """A picture on a board; it is deleted with the board or the picture."""

    __tablename__ = "board_pictures"
    __table_args__ = (Index("board_pictures_by_picture", "picture"),)

    board: Mapped[str] = mapped_column(ForeignKey("boards.id", ondelete="CASCADE"), primary_key=True)
    picture: Mapped[str] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"), primary_key=True)


class UploadRow(Table):
    """A picture that a client has uploaded.

    id: is a digest of the content, so that the same bytes are stored once.
    """

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
    """An event for clients. It is stored for a day, so that a client can reconnect.

    kind: job, picture, gallery or account.
    subject: id of the job, picture or account.
    last: whether the job is over.
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
