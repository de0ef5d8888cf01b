"""The errors of a studio, and their form in the API."""

# ruff: noqa: N818  as in danqing.core.errors

from __future__ import annotations

from typing import Any

from danqing.core.errors import BadBrief, BadPicture, BadWeights, DanqingError, NotFinite


class NotThere(DanqingError):
    """The job, picture, upload or model does not exist, or belongs to another user."""


class Conflict(DanqingError):
    """The action does not fit the present state, such as cancelling a job that is over."""


class Forbidden(DanqingError):
    """The account's role does not allow it."""


class QueueFull(DanqingError):
    """Too many jobs wait.

    seconds: time after which to try again.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = max(1, round(seconds))


class StorageFull(DanqingError):
    """The disk is full, or nearly full."""


class TooLarge(DanqingError):
    """There are more bytes or pixels than the limit."""


class UnsupportedFormat(DanqingError):
    """The picture has a format that is not supported, or the bytes are no picture."""


class JobFailed(DanqingError):
    """A job that the caller waited for has failed.

    error: the record of its error.
    """

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
"""Maps each kind of error to its code in the API."""


def error_record(error: BaseException, fields: frozenset[str] = frozenset()) -> dict[str, Any]:
    """An error as the API shows it: code, message, field and fix.

    fields: names of the request's inputs; a message that begins with one of them is about that field.
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
    """The JSON form of every error."""
    return {"code": code, "message": message, "field": field, "fix": fix}
