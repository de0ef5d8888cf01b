"""Errors as HTTP responses, in our form or in that of another program's API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from danqing.core.errors import DanqingError
from danqing.studio.errors import QueueFull, error_record, record

STATUS = {
    "bad_request": 422,
    "bad_picture": 422,
    "bad_weights": 422,
    "not_finite": 422,
    "not_found": 404,
    "conflict": 409,
    "cancelled": 409,
    "forbidden": 403,
    "queue_full": 429,
    "too_large": 413,
    "unsupported_media_type": 415,
    "storage_full": 507,
    "out_of_memory": 503,
    "stopping": 503,
    "internal": 500,
}
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "bad_request",
    429: "queue_full",
}

Render = Callable[[int, dict[str, Any]], tuple[int, dict[str, Any]]]
"""A function from (status, our record) to the status and the body of a dialect."""


class ErrorBody(BaseModel):
    """What is wrong, in a line, and what to do."""

    code: str = Field(examples=["bad_request"])
    message: str = Field(examples=["steps 0 is too small: use 1 or more"])
    field: str | None = Field(default=None, examples=["steps"])
    fix: str | None = Field(default=None, examples=["use 1 or more"])


class ErrorResponse(BaseModel):
    """The form of every error."""

    error: ErrorBody


def native_error(status: int, error: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """An error in the form of our own routes."""
    return status, {"error": error}


class Dialects:
    """The forms of errors, by the prefix of the path."""

    def __init__(self) -> None:
        self._renders: dict[str, Render] = {}

    def add(self, prefix: str, render: Render) -> None:
        """Use `render` for errors of paths that begin with `prefix`."""
        self._renders[prefix] = render

    def response(
        self, path: str, status: int, error: dict[str, Any], headers: dict[str, str] | None = None
    ) -> JSONResponse:
        """An error as a response."""
        render = next((r for prefix, r in self._renders.items() if path.startswith(prefix)), native_error)
        status, body = render(status, error)
        return JSONResponse(body, status, headers)


def install(app: FastAPI, dialects: Dialects) -> None:
    """Convert all exceptions in the routes of `app` to such responses."""

    async def domain(request: Request, error: Exception) -> JSONResponse:
        values = getattr(request.state, "inputs", {})
        body = error_record(error, frozenset(values))
        headers = {"Retry-After": str(error.seconds)} if isinstance(error, QueueFull) else None
        return dialects.response(request.url.path, STATUS.get(body["code"], 500), body, headers)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "internal")
        body = record(code, str(error.detail))
        return dialects.response(request.url.path, error.status_code, body, dict(error.headers or {}))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        names = [str(part) for part in first["loc"][1:]]
        field = ".".join(names) or None
        message = f"{field or 'the request'}: {str(first['msg'])[:1].lower()}{str(first['msg'])[1:]}"
        return dialects.response(request.url.path, 422, record("bad_request", message, field=field))

    async def fault(request: Request, error: Exception) -> JSONResponse:
        return dialects.response(request.url.path, 500, error_record(error))

    for kind in (DanqingError, MemoryError):
        app.add_exception_handler(kind, domain)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, fault)
