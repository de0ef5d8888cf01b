"""Logging in, and the accounts of a studio."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from danqing.interfaces.server.callers import COOKIE, Callers
from danqing.interfaces.server.context import Caller, Id, Name, StudioParam
from danqing.interfaces.server.login_attempts import LoginAttempts
from danqing.interfaces.server.views import Page, iso
from danqing.studio.accounts import LOGIN_SECONDS, Accounts, Role
from danqing.studio.errors import Conflict
from danqing.studio.service import Studio
from danqing.studio.tables import TokenRow, UserRow

router = APIRouter()

# attempts per minute: with one name from one address, and with any name from one address
_ATTEMPTS, _ATTEMPTS_OF_ADDRESS = 5, 30
_YEAR = 365 * 24 * 3600

log = logging.getLogger(__name__)

UserName = Annotated[str, Field(min_length=1, max_length=40, examples=["mei"])]
Password = Annotated[str, Field(min_length=8, max_length=200)]


class LoginMethods(BaseModel):
    """What one must know to get in: name and password of an account, a token, or nothing."""

    accounts: bool
    token: bool


class Login(BaseModel):
    """An account's name and password; or the token that the server was started with."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", max_length=40)
    password: str = Field(default="", max_length=200)
    token: str = Field(default="", max_length=500)


class NewPassword(BaseModel):
    """A password, and the one before it."""

    model_config = ConfigDict(extra="forbid")

    old: str = Field(max_length=200)
    new: Password


class UserView(BaseModel):
    """An account. role: admin, user or guest."""

    name: str = Field(examples=["mei"])
    role: Role
    created: str | None


class NewUser(BaseModel):
    """An account to be."""

    model_config = ConfigDict(extra="forbid")

    name: UserName
    password: Password
    role: Role = Role.USER


class UserChange(BaseModel):
    """What to change of an account. password: a new one, with which all its tokens end."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    password: Password | None = None


class Me(BaseModel):
    """Who asks. name: "" where there are no accounts."""

    name: str
    role: Role


class NewToken(BaseModel):
    """label: what it is for."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(default="", max_length=60, examples=["Open WebUI"])


class TokenView(BaseModel):
    """A token for programs. token: the secret itself, in the answer that makes it and never again."""

    id: str
    label: str
    created: str | None
    token: str | None = None


@router.get("/v1/login")
def login_methods(request: Request) -> LoginMethods:
    """What one must know to get in."""
    callers = _callers(request)
    return LoginMethods(accounts=callers.have_accounts, token=callers.have_token)


@router.post("/v1/login", status_code=204)
def log_in(login: Login, request: Request, response: Response, studio: StudioParam) -> None:
    """Get a cookie, by an account's name and password, or by the token of a server without accounts."""
    callers = _callers(request)
    name_key = _slow_down(request, login.name)
    if callers.have_accounts:
        secret, seconds = studio.store.accounts.log_in(login.name, login.password), LOGIN_SECONDS
        wrong = "name or password is wrong: try again"
    else:
        secret, seconds = (callers.cookie if callers.knows(login.token) else None), _YEAR
        wrong = "this is not the token: see what the server printed at its start"
    if secret is None:
        log.warning("a login from %s was refused", request.client.host if request.client else "?")
        raise HTTPException(401, wrong)
    _attempts(request).forget(name_key)
    _set_cookie(request, response, secret, seconds)


@router.post("/v1/logout", status_code=204)
def log_out(response: Response, studio: StudioParam, caller: Caller) -> None:
    """End this login; with a token, end the token."""
    if caller.secret:
        studio.store.accounts.drop_secret(caller.owner, caller.secret)
        studio.notify_clients()
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


@router.get("/v1/me")
def me(caller: Caller) -> Me:
    """Who asks."""
    return Me(name=caller.name, role=caller.role)


@router.post("/v1/me/password", status_code=204)
def change_password(
    body: NewPassword, request: Request, response: Response, studio: StudioParam, caller: Caller
) -> None:
    """Change one's own password: all tokens and other logins end, and this one gets a new cookie."""
    accounts = _accounts(studio, request)
    _slow_down(request, caller.name)
    if accounts.log_in(caller.name, body.old) is None:
        raise HTTPException(403, "the old password is wrong: try again")
    accounts.set_password(caller.name, body.new)
    studio.notify_clients()
    secret = accounts.log_in(caller.name, body.new)
    if secret is not None:
        _set_cookie(request, response, secret, LOGIN_SECONDS)


@router.get("/v1/tokens")
def list_tokens(studio: StudioParam, caller: Caller) -> Page[TokenView]:
    """One's own tokens."""
    return Page(data=[_token(row) for row in studio.store.accounts.tokens(caller.owner)])


@router.post("/v1/tokens", status_code=201)
def add_token(body: NewToken, request: Request, studio: StudioParam, caller: Caller) -> TokenView:
    """A token for a program, which then may do what its account may."""
    row, secret = _accounts(studio, request).new_token(caller.owner, body.label)
    return _token(row).model_copy(update={"token": secret})


@router.delete("/v1/tokens/{token}", status_code=204)
def remove_token(token: Id, studio: StudioParam, caller: Caller) -> None:
    """End a token; what it was used for is refused from now on."""
    studio.store.accounts.drop_secret(caller.owner, token)
    studio.notify_clients()


@router.get("/v1/users")
def list_users(studio: StudioParam) -> Page[UserView]:
    """All accounts."""
    return Page(data=_users(studio.store.accounts.users()))


@router.post("/v1/users", status_code=201)
def add_user(body: NewUser, request: Request, studio: StudioParam) -> UserView:
    """A new account."""
    row = _accounts(studio, request).add(body.name, body.password, body.role)
    return _users([row])[0]


@router.patch("/v1/users/{name}")
def change_user(name: Name, change: UserChange, request: Request, studio: StudioParam) -> UserView:
    """Change what an account may do, or its password."""
    accounts = _accounts(studio, request)
    if change.role is not None:
        accounts.set_role(name, change.role)
    if change.password is not None:
        accounts.set_password(name, change.password)
    studio.notify_clients()
    return _users([accounts.get(name)])[0]


@router.delete("/v1/users/{name}", status_code=204)
def remove_user(
    name: Name,
    studio: StudioParam,
    heir: Annotated[
        str | None,
        Query(max_length=40, description="account that gets what this one made"),
    ] = None,
) -> None:
    """Remove an account; what it made is deleted, or becomes that of `heir`."""
    studio.remove_account(name, heir)


def _callers(request: Request) -> Callers:
    callers = request.app.state.callers
    assert isinstance(callers, Callers)
    return callers


def _attempts(request: Request) -> LoginAttempts:
    attempts = request.app.state.login_attempts
    assert isinstance(attempts, LoginAttempts)
    return attempts


def _accounts(studio: Studio, request: Request) -> Accounts:
    """The accounts, if there are any. Raises Conflict: there are none; a command makes the first one."""
    if not _callers(request).have_accounts:
        raise Conflict("this server has no accounts: danqing users add NAME makes the first one")
    return studio.store.accounts


def _slow_down(request: Request, name: str) -> str:
    """Record a login attempt. Returns its key, to forget after success.

    Raises HTTPException: too many attempts.
    """
    address = request.client.host if request.client else ""
    key = f"{address} {name.casefold()}"
    limits = {key: _ATTEMPTS, address: _ATTEMPTS_OF_ADDRESS}
    if not all(_attempts(request).begin(who, most) for who, most in limits.items()):
        raise HTTPException(429, "too many tries: wait a minute", {"Retry-After": "60"})
    return key


def _set_cookie(request: Request, response: Response, secret: str, seconds: int) -> None:
    """Set the login cookie: no script reads it, other sites cannot send it, HTTPS keeps it to HTTPS."""
    secure = request.headers.get("origin", "").startswith("https:")
    response.set_cookie(COOKIE, secret, max_age=seconds, httponly=True, samesite="strict", secure=secure)


def _token(row: TokenRow) -> TokenView:
    return TokenView(id=row.id, label=row.label, created=iso(row.created))


def _users(rows: Sequence[UserRow]) -> list[UserView]:
    return [UserView(name=row.name, role=Role(row.role), created=iso(row.created)) for row in rows]
