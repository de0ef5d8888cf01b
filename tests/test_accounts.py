"""Accounts: every route x every role x every owner; secrets that end; and guessing, which is slow."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

import danqing
from danqing.core.errors import BadBrief, DanqingError
from danqing.interfaces.server import login_attempts
from danqing.interfaces.server.app import create_app
from danqing.interfaces.server.guard import Guard
from danqing.studio.accounts import Role
from danqing.studio.errors import Conflict, NotThere
from danqing.studio.gallery import NewPicture
from danqing.studio.jobs import Limits, NewJob
from danqing.studio.service import Studio, StudioOptions
from tests.asgi import OPEN, ask, calls, filled
from tests.command_line import Ask
from tests.server import LONG, Server, data
from tests.test_server import png
from tests.toy import Toy

PASSWORD = "correct horse"
ROLES = {"ada": Role.ADMIN, "uma": Role.USER, "gus": Role.GUEST}
ADMINS = {
    ("GET", "/metrics"),
    ("GET", "/v1/users"),
    ("POST", "/v1/users"),
    ("PATCH", "/v1/users/{name}"),
    ("DELETE", "/v1/users/{name}"),
}
USERS = {("POST", "/v1/models/{name}/warm")}

Headers = dict[str, str]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """One that was not started, with an account of each role."""
    studio = Studio(StudioOptions(tmp_path / "studio", (), limits=Limits(waiting_per_guest=2)))
    for name, role in ROLES.items():
        studio.store.accounts.add(name, PASSWORD, role)
    yield studio
    studio.close()


@pytest.fixture
def app(studio: Studio) -> Guard:
    return create_app(studio)


def bearer(studio: Studio, name: str) -> Headers:
    accounts = studio.store.accounts
    return {"Authorization": f"Bearer {accounts.new_token(accounts.get(name).id, 'test')[1]}"}


def log_in(app: Guard, name: str, password: str = PASSWORD) -> httpx2.Response:
    return ask(app, "POST", "/v1/login", json={"name": name, "password": password})


def cookie(app: Guard, name: str, password: str = PASSWORD) -> Headers:
    answer = log_in(app, name, password)
    assert answer.status_code == 204
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def status(app: Guard, headers: Headers, path: str = "/v1/me") -> int:
    return ask(app, "GET", path, headers=headers).status_code


def may(role: Role | None, call: tuple[str, str]) -> int:
    """What stands in the way of a role: 401, 403, or 0 for nothing."""
    if call[1] in OPEN:
        return 0
    if role is None:
        return 401
    denied = (call in ADMINS and role is not Role.ADMIN) or (call in USERS and role is Role.GUEST)
    return 403 if denied else 0


def test_every_route_by_every_role(studio: Studio, app: Guard) -> None:
    whom: list[tuple[Role | None, Headers]] = [(None, {}), (None, {"Authorization": "Bearer dq-nothing"})]
    whom += [(role, bearer(studio, name)) for name, role in ROLES.items()]
    for call in calls(app):
        for role, headers in whom:
            wanted = may(role, call)
            if wanted == 0 and call[1] in ("/v1/events", "/v1/logout"):  # it does not end; it ends the token
                continue
            answer = ask(app, call[0], filled(call[1]), headers=headers)
            if wanted:
                assert answer.status_code == wanted, (call, role, answer.text)
            else:
                assert answer.status_code not in (401, 403), (call, role, answer.text)
                assert answer.status_code < 500, (call, role, answer.text)


def test_a_route_without_a_rule_is_for_admins(studio: Studio, app: Guard) -> None:
    app._app.add_api_route("/v1/brand-new", lambda: "made", methods=["GET"])
    assert [status(app, bearer(studio, name), "/v1/brand-new") for name in ROLES] == [200, 403, 403]
    assert status(app, {}, "/v1/brand-new") == 401


def everything_of(studio: Studio, owner: str) -> dict[str, str]:
    """One of each thing that an owner can have: its place in a path, and its id."""
    job = studio.store.queue.submit(owner, NewJob("paint", "toy", {}))
    claim = studio.store.queue.claim("w")
    assert claim is not None
    [made] = danqing.paint("x", painter=Toy(), seed=1)
    picture = studio.store.gallery.add(claim, NewPicture(0, made, made.save))
    assert picture is not None
    upload = studio.store.uploads.add(owner, png(made.image)).id
    token = studio.store.accounts.new_token(owner, "theirs")[0].id
    board = studio.store.boards.add(owner, "theirs").id
    return {"{job}": job.id, "{picture}": picture, "{upload}": upload, "{token}": token, "{board}": board}


def test_every_route_by_every_owner(studio: Studio, app: Guard) -> None:
    """What is somebody else's is not there, for admins neither."""
    ids = everything_of(studio, studio.store.accounts.get("uma").id)
    things = [call for call in calls(app) if call[1] not in OPEN and any(name in call[1] for name in ids)]
    assert len(things) > 12
    own, others = bearer(studio, "uma"), [bearer(studio, "ada"), bearer(studio, "gus")]

    def answer(call: tuple[str, str], headers: Headers) -> httpx2.Response:
        path = re.sub(r"\{[^}]+\}", lambda match: ids[match[0]], call[1])
        change = {"name": "mine"} if "{board}" in call[1] else {"star": True}
        body: Any = {"json": change} if call[0] == "PATCH" else {}
        return ask(app, call[0], path, headers=headers, **body)

    for call in things:
        for headers in others:
            assert answer(call, headers).status_code == 404, call
    inner_first = sorted(things, key=lambda call: (call[0] == "DELETE", -len(call[1]), call))
    for call in inner_first:
        if call[1].endswith(("/events", "/preview")):  # it does not end; there is none
            continue
        assert answer(call, own).status_code in (200, 204), call
    for path in ("/v1/jobs", "/v1/pictures", "/v1/pictures?q=x", "/v1/pictures?trash=true"):
        assert all(ask(app, "GET", path, headers=headers).json()["data"] == [] for headers in others)
    upload = {"app": "redraw", "inputs": {"prompt": "x", "image": ids["{upload}"]}}
    for headers, code in ((others[0], 422), (others[1], 422), (own, 202)):
        assert ask(app, "POST", "/v1/jobs", json=upload, headers=headers).status_code == code


def test_guests_wait_shorter_and_teach_nobody(studio: Studio, app: Guard) -> None:
    guest, body = bearer(studio, "gus"), {"app": "paint", "inputs": {"prompt": "a cat"}}
    codes = [ask(app, "POST", "/v1/jobs", json=body, headers=guest).status_code for _ in range(3)]
    assert codes == [202, 202, 429]
    learn = {"app": "learn", "inputs": {"name": "mug", "images": []}}
    assert ask(app, "POST", "/v1/jobs", json=learn, headers=guest).status_code == 403
    assert ask(app, "POST", "/v1/jobs", json=learn, headers=bearer(studio, "uma")).status_code == 422


def test_a_login_is_a_cookie_that_ends(studio: Studio, app: Guard) -> None:
    answer = log_in(app, "UMA")  # names are the same in any case
    words = answer.headers["set-cookie"]
    assert all(word in words for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert PASSWORD not in words
    headers = {"Cookie": words.partition(";")[0]}
    assert ask(app, "GET", "/v1/me", headers=headers).json() == {"name": "uma", "role": "user"}
    foreign = {**headers, "Origin": "http://evil.example"}
    assert ask(app, "POST", "/v1/logout", headers=foreign).status_code == 403
    assert ask(app, "POST", "/v1/logout", headers=headers).status_code == 204
    assert status(app, headers) == 401
    secret = studio.store.accounts.log_in("uma", PASSWORD)
    database = studio.options.folder / "studio.db"
    kept = b"".join(path.read_bytes() for path in database.parent.glob("studio.db*"))
    assert secret is not None
    assert secret.encode() not in kept
    assert PASSWORD.encode() not in kept


def test_a_login_is_over_after_a_month(app: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    headers, now = cookie(app, "uma"), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 29 * 86400)
    assert status(app, headers) == 200
    monkeypatch.setattr(time, "time", lambda: now + 31 * 86400)
    assert status(app, headers) == 401


def test_tokens_are_known_in_two_ways_until_they_are_removed(app: Guard) -> None:
    own = cookie(app, "uma")
    made = ask(app, "POST", "/v1/tokens", json={"label": "Open WebUI"}, headers=own).json()
    basic = base64.b64encode(f"uma:{made['token']}".encode()).decode()
    ways = [{"Authorization": f"Bearer {made['token']}"}, {"Authorization": f"Basic {basic}"}]
    assert [status(app, headers) for headers in ways] == [200, 200]
    listed = ask(app, "GET", "/v1/tokens", headers=own).json()["data"]
    assert [(token["id"], token["label"], token["token"]) for token in listed] == [
        (made["id"], "Open WebUI", None)
    ]
    assert ask(app, "DELETE", f"/v1/tokens/{made['id']}", headers=own).status_code == 204
    assert [status(app, headers) for headers in ways] == [401, 401]
    password = base64.b64encode(f"uma:{PASSWORD}".encode()).decode()
    assert status(app, {"Authorization": f"Basic {password}"}) == 401  # it could be guessed without a pause


def test_a_new_password_ends_every_secret(studio: Studio, app: Guard) -> None:
    old = [cookie(app, "uma"), cookie(app, "uma"), bearer(studio, "uma")]
    body = {"old": "wrong horse", "new": "battery staple"}
    assert ask(app, "POST", "/v1/me/password", json=body, headers=old[0]).status_code == 403
    answer = ask(app, "POST", "/v1/me/password", json={**body, "old": PASSWORD}, headers=old[0])
    assert answer.status_code == 204
    assert [status(app, headers) for headers in old] == [401, 401, 401]
    assert status(app, {"Cookie": answer.headers["set-cookie"].partition(";")[0]}) == 200
    assert log_in(app, "uma").status_code == 401
    assert status(app, cookie(app, "uma", "battery staple")) == 200
    short = {"old": "battery staple", "new": "short"}
    assert ask(app, "POST", "/v1/me/password", json=short, headers=bearer(studio, "uma")).status_code == 422


def test_guessing_a_password_is_slow(app: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: 1000.0)
    monkeypatch.setattr(login_attempts, "time", clock)  # a slow machine may need more than a minute
    codes = [log_in(app, "uma", f"guess {n} it").status_code for n in range(7)]
    assert codes == [401] * 5 + [429] * 2
    assert log_in(app, "uma").status_code == 429  # also the right one
    assert log_in(app, "gus").status_code == 204
    assert [log_in(app, f"name{n}").status_code for n in (1, 2)] == [401, 401]
    clock.monotonic = lambda: 1061.0
    assert log_in(app, "uma").status_code == 204


def test_guessing_many_names_is_slow_too() -> None:
    noted = login_attempts.LoginAttempts()
    assert [noted.begin("address", 30) for _ in range(32)] == [True] * 30 + [False] * 2
    assert noted.begin("another", 30)
    for n in range(20_000):
        noted.begin(f"name {n}", 5)
    assert len(noted._times) <= 10_001


def test_an_unknown_name_takes_as_long_as_a_wrong_password(studio: Studio) -> None:
    def seconds(name: str) -> float:
        start = time.perf_counter()
        assert studio.store.accounts.log_in(name, "wrong horse") is None
        return time.perf_counter() - start

    known, unknown = ([seconds(name) for _ in range(8)] for name in ("uma", "nobody"))
    assert 0.5 < min(unknown) / min(known) < 2


def test_admins_make_and_remove_accounts(studio: Studio, app: Guard) -> None:
    ada = bearer(studio, "ada")
    new = {"name": "李雷", "password": "a long password", "role": "guest"}
    assert ask(app, "POST", "/v1/users", json=new, headers=ada).json()["role"] == "guest"
    assert ask(app, "POST", "/v1/users", json=new, headers=ada).status_code == 409
    assert ask(app, "POST", "/v1/users", json={**new, "name": "a b"}, headers=ada).status_code == 422
    lei = cookie(app, "李雷", new["password"])
    change = {"role": "user", "password": "another password"}
    assert ask(app, "PATCH", "/v1/users/李雷", json=change, headers=ada).json()["role"] == "user"
    assert status(app, lei) == 401
    names = [user["name"] for user in ask(app, "GET", "/v1/users", headers=ada).json()["data"]]
    assert names == ["ada", "gus", "uma", "李雷"]
    for path, body in (("/v1/users/ada", {"role": "user"}), ("/v1/users/ada", None)):
        method = "DELETE" if body is None else "PATCH"
        answer = ask(app, method, path, headers=ada, **({"json": body} if body else {}))
        assert answer.status_code == 409
        assert "only admin" in answer.json()["error"]["message"]
    assert ask(app, "DELETE", "/v1/users/李雷", headers=ada).status_code == 204
    assert log_in(app, "李雷", "another password").status_code == 401


def test_what_a_removed_account_made_is_deleted_or_inherited(studio: Studio) -> None:
    store, owner = studio.store, {name: studio.store.accounts.get(name).id for name in ROLES}
    kept, gone = everything_of(studio, owner["uma"]), everything_of(studio, owner["gus"])
    store.uploads.add(owner["ada"], store.uploads.path(owner["uma"], kept["{upload}"]).read_bytes())
    waiting = store.queue.submit(owner["uma"], NewJob("paint", "toy", {}, key="a key"))
    with pytest.raises(Conflict):
        store.remove_account("uma", "uma")
    with pytest.raises(NotThere):
        store.remove_account("uma", "nobody")
    studio.remove_account("uma", "ada")
    assert store.gallery.get(owner["ada"], kept["{picture}"]).prompt == "x"
    assert store.uploads.path(owner["ada"], kept["{upload}"]).exists()
    assert store.queue.get(owner["ada"], waiting.id).state == "cancelled"
    path = store.gallery.path(store.gallery.get(owner["gus"], gone["{picture}"]).file)
    studio.remove_account("gus", None)
    assert not path.exists()
    assert store.sweep() == {"removed": 0, "changed": 0}
    with pytest.raises(NotThere):
        store.uploads.get(owner["gus"], gone["{upload}"])


def test_the_first_account_owns_what_was_there(tmp_path: Path) -> None:
    studio = Studio(StudioOptions(tmp_path / "studio", ()))
    app = create_app(studio)
    everything = {"app": "paint", "inputs": {"prompt": "a cat"}}
    job = ask(app, "POST", "/v1/jobs", json=everything).json()["id"]
    assert ask(app, "POST", "/v1/users", json={"name": "eve", "password": PASSWORD}).status_code == 409
    with pytest.raises(BadBrief, match="admin"):
        studio.store.accounts.add("eve", PASSWORD, Role.USER)
    assert ask(app, "GET", "/v1/login").json() == {"accounts": False, "token": False}
    studio.store.accounts.add("eve", PASSWORD, Role.ADMIN)
    assert ask(app, "GET", "/v1/login").json() == {"accounts": True, "token": False}
    assert status(app, {}) == 401  # at once
    assert status(app, bearer(studio, "eve"), f"/v1/jobs/{job}") == 200
    studio.close()


def test_commands_and_clients(tmp_path: Path, ask: Ask) -> None:
    """A real server, accounts made by commands beside it, and streams that end with their secret."""
    folder = tmp_path / "studio"
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    where = ["--folder", str(folder)]
    given = ["--password-file", str(tmp_path / "password"), *where]
    assert ask("users", "add", "mei", *given).out == f"mei is admin of {folder}\n"
    assert ask("users", "add", "lin", *given).out == f"lin is user of {folder}\n"
    assert "already" in ask("users", "add", "Lin", *given).err
    assert ask("users", "add", "x", "--role", "king", *given).code == 2
    token = ask("users", "token", "lin", "--label", "test", *where).out.strip()
    assert [line.split()[:2] for line in ask("users", "list", *where).out.splitlines()] == [
        ["lin", "user"],
        ["mei", "admin"],
    ]
    server = Server(folder, "--host", "0.0.0.0")
    try:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(DanqingError, match="needs a token"):
            danqing.Client(url).models()
        client = danqing.Client(url, token)
        job = client.submit("paint", **LONG)
        assert client.wait(job)[0].brief.prompt == "a red apple"
        headers = {"Authorization": f"Bearer {token}"}
        with httpx2.stream("GET", f"{url}/v1/events", headers=headers, timeout=60) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith(":")
            start = time.monotonic()
            assert ask("users", "password", "lin", *given).code == 0
            list(lines)  # to the end
            assert time.monotonic() - start < 60
        with pytest.raises(DanqingError, match="needs a token"):
            client.models()
        assert ask("users", "remove", "lin", *where).code == 2
        assert ask("users", "remove", "lin", "--heir", "mei", *where).code == 0
        mei = ask("users", "token", "mei", *where).out.strip()
        assert [picture["job"] for picture in danqing.Client(url, mei).pictures()] == [job]
        assert data(httpx2.get(f"{url}/v1/login")) == {"accounts": True, "token": False}
    finally:
        server.stop()
    assert ask("serve", "--token", "x", *where).code == 2
