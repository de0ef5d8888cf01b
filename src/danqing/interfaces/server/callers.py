"""Identifies the caller of a request, by a token or by the cookie of a browser."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

from danqing.studio.accounts import LOCAL_USER, Accounts, Identity

COOKIE = "danqing"


class Callers:
    """Identifies callers.

    token: the token that everybody needs if there are no accounts; None needs none, on this computer only.
    """

    def __init__(self, accounts: Accounts, token: str | None) -> None:
        self._accounts, self._token = accounts, token
        self._closed = False

    @property
    def have_accounts(self) -> bool:
        """Whether an account is needed: from the first account on, even after the last one is removed."""
        self._closed = self._closed or self._accounts.exist()
        return self._closed

    @property
    def cookie(self) -> str:
        """The cookie's value for a browser whose user has given the token."""
        return hashlib.sha256(f"danqing {self._token}".encode()).hexdigest()

    @property
    def have_token(self) -> bool:
        """Whether everybody needs the same token."""
        return self._token is not None and not self.have_accounts

    def identify(self, headers: Headers) -> Identity | None:
        """The identity of a request's caller; None if the caller may not enter."""
        token, cookie = _token_of(headers), _cookie_of(headers)
        if self.have_accounts:
            secret = cookie if token is None else token
            return None if secret is None else self._accounts.identify(secret)
        if self._token is None:
            return LOCAL_USER
        good = is_same(token, self._token) if token is not None else is_same(cookie or "", self.cookie)
        return LOCAL_USER if good else None

    def knows(self, token: str) -> bool:
        """Whether `token` is the right one; the comparison takes the same time for any text."""
        return self._token is None or is_same(token, self._token)


def _token_of(headers: Headers) -> str | None:
    """The token in the Authorization header, as Bearer or as the password of Basic; None if there is none."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return value.strip() if kind else None


def _cookie_of(headers: Headers) -> str | None:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def is_same(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())
