"""Accounts: the users of a studio, their roles, and the secrets that identify them.

A studio without accounts is open to everybody who can reach it. The first account is an admin, and becomes
the owner of everything that was made before.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from danqing.core.errors import BadBrief
from danqing.studio.database import Database
from danqing.studio.errors import Conflict, NotThere
from danqing.studio.events import add_event
from danqing.studio.ids import new_id
from danqing.studio.tables import TokenRow, UserRow

LOGIN_SECONDS = 30 * 24 * 3600
"""How long a browser stays logged in."""

PASSWORD_MIN, PASSWORD_MAX = 8, 200  # characters
TOKENS_MAX = 100  # most tokens of an account
_NAME = re.compile(r"[\w.@+-]{1,40}")
_PREFIX = "dq-"  # a prefix by which secret scanners recognise a leaked token
_HASHER = PasswordHasher()
_ONE_BY_ONE = Lock()  # one at a time, since a hash takes 64 MB of memory


class Role(StrEnum):
    """What an account may do; see docs/serving.md."""

    GUEST = "guest"
    USER = "user"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """A role may do everything that roles of a lower rank may."""
        return list(Role).index(self)


@dataclass(frozen=True)
class Identity:
    """The caller of a request.

    owner: the id that the caller's jobs and pictures have.
    name: the account's name; "" without accounts.
    role: what the caller may do.
    secret: the id of the token or login that was used.
    """

    owner: str
    name: str
    role: Role
    secret: str = ""


LOCAL_USER = Identity("local", "", Role.ADMIN)
"""The identity of every caller while there are no accounts."""


class Accounts:
    """The accounts of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def exist(self) -> bool:
        """Whether there are any accounts."""
        with self._database.read() as session:
            return session.scalar(select(UserRow.id).limit(1)) is not None

    def users(self) -> Sequence[UserRow]:
        """All accounts, by name."""
        with self._database.read() as session:
            return session.scalars(select(UserRow).order_by(UserRow.name)).all()

    def get(self, name: str) -> UserRow:
        """An account. Raises NotThere."""
        with self._database.read() as session:
            return _user(session, name)

    def role_of(self, owner: str) -> Role:
        """The role of an owner; that of a guest if the account is gone."""
        if not self.exist():
            return LOCAL_USER.role
        with self._database.read() as session:
            row = session.get(UserRow, owner)
        return Role.GUEST if row is None else Role(row.role)

    def add(self, name: str, password: str, role: Role) -> UserRow:
        """Add an account.

        Raises:
            BadBrief: the name or the password is not valid, or the first account is not an admin.
            Conflict: there is an account of this name.
        """
        name = _plain_name(name)
        digest = _digest(name, password)
        with self._database.write() as session:
            first = session.scalar(select(UserRow.id).limit(1)) is None
            if first and role is not Role.ADMIN:
                raise BadBrief(f"role {role.value!r} of the first account: make it an admin", "role")
            if session.scalar(select(UserRow).where(UserRow.name == name)) is not None:
                raise Conflict(f"account {name!r} is there already: choose another name")
            user_id = LOCAL_USER.owner if first else new_id()
            row = UserRow(id=user_id, name=name, role=role.value, password=digest, created=time.time())
            session.add(row)
        return row

    def set_role(self, name: str, role: Role) -> UserRow:
        """Change the role of an account. Raises NotThere; Conflict: it is the last admin."""
        with self._database.write() as session:
            row = _user(session, name)
            if role is not Role.ADMIN:
                _check_not_last(session, row)
            row.role = role.value
        return row

    def set_password(self, name: str, password: str) -> None:
        """Change a password; all tokens and logins of the account end. Raises NotThere, BadBrief."""
        digest = _digest(_plain_name(name), password)
        with self._database.write() as session:
            row = _user(session, name)
            row.password = digest
            session.execute(delete(TokenRow).where(TokenRow.user == row.id))
            add_event(session, row.id, "account", row.id)

    def remove(self, name: str) -> str:
        """Remove an account and its secrets. Returns its id.

        Raises:
            NotThere: there is no such account.
            Conflict: it is the last admin.
        """
        with self._database.write() as session:
            row = _user(session, name)
            _check_not_last(session, row)
            session.execute(delete(TokenRow).where(TokenRow.user == row.id))
            session.delete(row)
            add_event(session, row.id, "account", row.id)
        return row.id

    def log_in(self, name: str, password: str) -> str | None:
        """The secret of a new login; None if name or password are wrong, which takes the same time."""
        name = _fold(name)
        with self._database.read() as session:
            row = session.scalar(select(UserRow).where(UserRow.name == name))
        if not _is_password(password, row.password if row else _NOBODY) or row is None:
            return None
        with self._database.write() as session:
            now = session.get(UserRow, row.id)
            if now is None or now.password != row.password:  # the password was changed meanwhile
                return None
            if _HASHER.check_needs_rehash(now.password):
                now.password = _HASHER.hash(password)
            session.execute(delete(TokenRow).where(TokenRow.expires < time.time()))
            return _new_secret(session, row.id, "login", "", time.time() + LOGIN_SECONDS)[1]

    def identify(self, secret: str) -> Identity | None:
        """The identity that a secret belongs to; None if there is none."""
        query = select(TokenRow.id, TokenRow.expires, UserRow).join(UserRow, UserRow.id == TokenRow.user)
        with self._database.read() as session:
            row = session.execute(query.where(TokenRow.digest == _hash(secret))).one_or_none()
        if row is None:
            return None
        token, expires, user = row
        expired = expires is not None and expires < time.time()
        return None if expired else Identity(user.id, user.name, Role(user.role), token)

    def new_token(self, owner: str, label: str) -> tuple[TokenRow, str]:
        """Make a token for programs. Returns its row and its secret, which is not stored.

        Raises:
            NotThere: there is no such account.
            Conflict: it has too many tokens.
        """
        with self._database.write() as session:
            if session.get(UserRow, owner) is None:
                raise NotThere("no such account: log in again")
            mine = select(func.count()).where(TokenRow.user == owner, TokenRow.kind == "token")
            if (session.scalar(mine) or 0) >= TOKENS_MAX:
                raise Conflict(f"there are {TOKENS_MAX} tokens: remove one that is not used")
            return _new_secret(session, owner, "token", label, None)

    def tokens(self, owner: str) -> Sequence[TokenRow]:
        """The tokens of an account, oldest first."""
        query = select(TokenRow).where(TokenRow.user == owner, TokenRow.kind == "token")
        with self._database.read() as session:
            return session.scalars(query.order_by(TokenRow.id)).all()

    def drop_secret(self, owner: str, secret: str) -> None:
        """Delete a token or a login by its id. Raises NotThere."""
        with self._database.write() as session:
            row = session.get(TokenRow, secret)
            if row is None or row.user != owner:
                raise NotThere(f"no token {secret!r}: check the id")
            session.delete(row)
            add_event(session, owner, "account", owner)


def _new_secret(
    session: Session, user: str, kind: str, label: str, expires: float | None
) -> tuple[TokenRow, str]:
    secret = _PREFIX + secrets.token_urlsafe(32)
    row = TokenRow(
        id=new_id(),
        user=user,
        kind=kind,
        digest=_hash(secret),
        label=label,
        created=time.time(),
        expires=expires,
    )
    session.add(row)
    return row, secret


def _user(session: Session, name: str) -> UserRow:
    row = session.scalar(select(UserRow).where(UserRow.name == _fold(name)))
    if row is None:
        raise NotThere(f"no account {name[:60]!r}: danqing users list tells them")
    return row


def _check_not_last(session: Session, row: UserRow) -> None:
    admins = session.scalar(select(func.count()).where(UserRow.role == Role.ADMIN.value)) or 0
    if row.role == Role.ADMIN.value and admins == 1:
        raise Conflict(f"{row.name!r} is the only admin: make another one first")


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _plain_name(name: str) -> str:
    plain = _fold(name)
    if not _NAME.fullmatch(plain):
        raise BadBrief(f"name {name[:60]!r}: use 1 to 40 letters, digits and . _ @ + -", "name")
    return plain


def _digest(name: str, password: str) -> str:
    """The hash of a password, which is stored in its place. Raises BadBrief: the password is not valid."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX or password.casefold() == name:
        raise BadBrief(
            f"the password: use {PASSWORD_MIN} to {PASSWORD_MAX} characters, and not the name", "password"
        )
    with _ONE_BY_ONE:
        return _HASHER.hash(password)


def _is_password(password: str, digest: str) -> bool:
    with _ONE_BY_ONE:
        try:
            return _HASHER.verify(digest, password[: PASSWORD_MAX + 1])
        except VerificationError:
            return False


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$" + "A" * 22 + "$" + "A" * 43
"""The hash of an unused password, checked for unknown names so that they take as long as wrong passwords."""
