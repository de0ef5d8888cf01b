"""`danqing users`: the accounts of a studio."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from danqing.core.errors import BadBrief, unknown
from danqing.interfaces.cli.language import say
from danqing.interfaces.cli.studio import FOLDER, check_packages

if TYPE_CHECKING:
    from danqing.studio.accounts import Role
    from danqing.studio.store import Store

ROLES = ("admin", "user", "guest")

app = typer.Typer(
    help="The accounts of a studio: who may paint in it, and with what.",
    add_completion=False,
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="The name of an account.")]
Folder = Annotated[Path, typer.Option(envvar="DANQING_STUDIO", help="The folder of the studio.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(help="A file whose first line is the password; - reads standard input.", show_default=False),
]


@app.command()
def add(
    name: Name,
    role: Annotated[
        str, typer.Option(help="admin, user or guest.", show_default="user; admin for the first")
    ] = "",
    password_file: PasswordFile = None,
    folder: Folder = Path(FOLDER),
) -> None:
    """Make an account; it asks for the password.

    The first one is an admin and owns what was made before. From then on everybody must log in.

    danqing users add mei

    danqing users add visitor --role guest
    """
    with open_store(folder) as store:
        chosen = _role(role or ("user" if store.accounts.exist() else "admin"))
        row = store.accounts.add(name, _password(password_file), chosen)
    print(say(f"{row.name} is {row.role} of {folder}"))


@app.command("list")
def list_users(folder: Folder = Path(FOLDER)) -> None:
    """List the accounts: name, role, when they were made, and tokens.

    danqing users list
    """
    with open_store(folder) as store:
        for row in store.accounts.users():
            since = datetime.fromtimestamp(row.created, UTC).date().isoformat()
            print(f"{row.name:<20}  {row.role:<5}  {since}  {len(store.accounts.tokens(row.id))} tokens")


@app.command()
def remove(
    name: Name,
    heir: Annotated[
        str, typer.Option(help="The account that gets the pictures; else they are deleted.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")] = False,
    folder: Folder = Path(FOLDER),
) -> None:
    """Remove an account; what it has made is deleted, or goes to an heir.

    danqing users remove lin --heir mei
    """
    with open_store(folder) as store:
        store.accounts.get(name)
        question = f"Delete {name} and all pictures of {name} for ever?"
        if not heir and not yes and not (sys.stdin.isatty() and typer.confirm(say(question), err=True)):
            raise BadBrief("all pictures would be deleted for ever: give --yes, or --heir NAME")
        store.remove_account(name, heir or None)


@app.command()
def role(
    name: Name,
    role: Annotated[str, typer.Argument(help="admin, user or guest.")],
    folder: Folder = Path(FOLDER),
) -> None:
    """Change what an account may do.

    danqing users role lin admin
    """
    with open_store(folder) as store:
        store.accounts.set_role(name, _role(role))


@app.command()
def password(name: Name, password_file: PasswordFile = None, folder: Folder = Path(FOLDER)) -> None:
    """Change a password; all tokens and logins of the account end.

    danqing users password mei
    """
    with open_store(folder) as store:
        store.accounts.get(name)
        store.accounts.set_password(name, _password(password_file))


@app.command()
def token(
    name: Name,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    folder: Folder = Path(FOLDER),
) -> None:
    """Print a new token, with which a program may do what the account may. It is not kept in plain.

    danqing users token mei --label "Open WebUI"
    """
    with open_store(folder) as store:
        _, secret = store.accounts.new_token(store.accounts.get(name).id, label)
    print(secret)


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Open the data of a studio; its server may run at the same time."""
    check_packages()
    from danqing.studio.store import Store

    store = Store(folder.expanduser())
    try:
        yield store
    finally:
        store.close()


def _role(name: str) -> Role:
    from danqing.studio.accounts import Role

    if name not in ROLES:
        raise BadBrief(unknown("role", name, ROLES))
    return Role(name)


def _password(file: Path | None) -> str:
    """A password from a file, from standard input, or typed twice without being shown. Raises OSError."""
    if file is None and sys.stdin.isatty():
        return str(typer.prompt(say("Password"), hide_input=True, confirmation_prompt=True, err=True))
    if file is None:
        raise BadBrief("no terminal to ask for the password: give --password-file FILE, or - to read it")
    text = sys.stdin.readline() if str(file) == "-" else file.read_text("utf-8")
    return text.partition("\n")[0].rstrip("\r")
