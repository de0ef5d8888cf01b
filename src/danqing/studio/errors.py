"""What can go wrong in a studio, and how an error is told to a client."""

# ruff: noqa: N818  as in danqing.core.errors

from __future__ import annotations

from typing import Any

from danqing.core.errors import BadBrief, BadPicture, BadWeights, DanqingError, NotFinite


class NotThere(DanqingError):
    """No such job, picture, upload or model, or not this user's."""


class Conflict(DanqingError):
    """It is too late, or too early, for what is wanted."""


class Forbidden(DanqingError):
    """The account may not do it."""


class QueueFull(DanqingError):
    """Too many jobs wait. seconds: after which to try again."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = max(1, round(seconds))


class StorageFull(DanqingError):
    """The disk is full, or nearly."""


class TooLarge(DanqingError):
    """More bytes or pixels than are taken."""


class UnsupportedFormat(DanqingError):
    """A picture of a format that is not taken, or bytes that are none."""


class JobFailed(DanqingError):
    """A job that somebody waited for has failed. error: as it is recorded."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


CODES: dict[type[BaseException], str] = {
    NotThere: "not_found",
    Conflict: "conflict",
    Forbidden: "forbidden",
    QueueFull: "queue_full",
    StorageFull: "storage_full",
    TooLarge: "too_large",
    UnsupportedFormat: "unsupported_media_type",
    BadPicture: "bad_picture",
    BadWeights: "bad_weights",
    NotFinite: "not_finite",
    BadBrief: "bad_request",
    DanqingError: "bad_request",
    MemoryError: "out_of_memory",
}
"""Kind of error -> the code in the API."""


def error_record(error: BaseException, fields: frozenset[str] = frozenset()) -> dict[str, Any]:
    """An error as the API shows it: code, message, field and fix.

    fields: the inputs of the request, one of which a message may begin with.
    """
    if isinstance(error, JobFailed):
        return error.error
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), "internal")
    if code == "internal":
        return record(code, "a fault of danqing: the log of the server tells more")
    if code == "out_of_memory":
        return record(code, "not enough memory: ask for fewer or smaller pictures", fix="ask for less")
    message = " ".join(str(error).split())
    field = getattr(error, "field", None) or next((w for w in message.split()[:2] if w in fields), None)
    _, colon, fix = message.rpartition(": ")
    return record(code, message, field=field, fix=fix if colon else None)


def record(code: str, message: str, *, field: str | None = None, fix: str | None = None) -> dict[str, Any]:
    """The form of every error."""
    return {"code": code, "message": message, "field": field, "fix": fix}
