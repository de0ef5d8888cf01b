"""The role that each route requires.

A route without a rule is for admins only, so a new route is closed at first.
"""

from __future__ import annotations

import re

from danqing.studio.accounts import Role

_OPEN = re.compile(r"/(|health|favicon\.ico|static/.*|p/[^/]*|learn|learn/[^/]*|v1/login)")
"""Paths that need no account: the files of the page, and the routes for logging in."""

_RULES: tuple[tuple[str, Role], ...] = (
    (r"GET /openapi\.json", Role.GUEST),
    (r"(GET|POST|DELETE) /v1/(me|logout|me/password|tokens)", Role.GUEST),
    (r"DELETE /v1/tokens/[^/]*", Role.GUEST),
    (r"GET /v1/(capabilities|apps|apps/[^/]*|adapters|models|models/[^/]*(/words)?)", Role.GUEST),
    (r"(GET|POST) /v1/uploads(/.*)?", Role.GUEST),
    (r"(GET|POST|DELETE) /v1/(jobs|events)(/.*)?", Role.GUEST),
    (r"(GET|PATCH|DELETE) /v1/(pictures|trash)(/.*)?", Role.GUEST),
    (r"(GET|POST|PATCH|PUT|DELETE) /v1/boards(/.*)?", Role.GUEST),
    (r"POST /v1/images/.*", Role.GUEST),
    (r"(GET|POST) /(sdapi/v1|controlnet)/.*", Role.GUEST),
    (r"POST /v1/models/[^/]*/warm", Role.USER),
)
"""Maps method and path to the lowest role that may use it."""

_COMPILED = tuple((re.compile(rule, re.DOTALL), role) for rule, role in _RULES)


def is_open(path: str) -> bool:
    """Whether a path needs no account."""
    return _OPEN.fullmatch(path) is not None


def least_role(method: str, path: str) -> Role:
    """The lowest role that may use a route."""
    request = f"{'GET' if method == 'HEAD' else method} {path}"
    return next((role for rule, role in _COMPILED if rule.fullmatch(request)), Role.ADMIN)
