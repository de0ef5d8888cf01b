"""Safe by default: every route there is, asked by strangers, from other pages, and with paths."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import danqing
from danqing.core.errors import BadBrief
from danqing.interfaces.server.app import create_app
from danqing.interfaces.server.callers import Callers
from danqing.interfaces.server.guard import POLICY, GuardOptions
from danqing.interfaces.server.run import ServerOptions, _check_closed, serve
from danqing.studio.accounts import Accounts
from danqing.studio.database import Database
from danqing.studio.jobs import Limits
from danqing.studio.service import Studio, StudioOptions
from tests.asgi import OPEN, ask, calls, filled
from tests.toy import Toy

TOKEN = "correct horse"
LOCAL: dict[str, Any] = {"Host": "127.0.0.1:7860"}


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """One that was not started: it answers, and paints nothing."""
    studio = Studio(StudioOptions(tmp_path / "studio", (), limits=Limits(waiting_per_user=3)))
    yield studio
    studio.close()


def test_every_route_needs_the_token(studio: Studio) -> None:
    app = create_app(studio, GuardOptions(token=TOKEN))
    cookie = {"Cookie": f"danqing={Callers(studio.store.accounts, 'other').cookie}"}
    basic = base64.b64encode(b"user:wrong").decode()
    strangers = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {basic}"}, cookie]
    strangers += [{"Authorization": text} for text in ("Bearer", "Basic ", "Basic %%%", "Digest x")]
    for method, path in calls(app):
        for headers in strangers if path == "/v1/jobs" else strangers[:2]:
            status = ask(app, method, filled(path), headers=headers).status_code
            assert (status == 401) == (path not in OPEN), (method, path, status)


def test_the_token_is_known_in_three_ways(studio: Studio) -> None:
    app = create_app(studio, GuardOptions(token=TOKEN))
    basic = base64.b64encode(f"user:{TOKEN}".encode()).decode()
    login = ask(app, "POST", "/v1/login", json={"token": TOKEN})
    assert login.status_code == 204
    cookie = login.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    ways = [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"Basic {basic}"},
        {"Cookie": cookie.partition(";")[0]},
    ]
    for headers in ways:
        assert ask(app, "GET", "/v1/jobs", headers=headers).status_code == 200


def test_guessing_the_token_is_slow(studio: Studio) -> None:
    app = create_app(studio, GuardOptions(token=TOKEN))
    statuses = [ask(app, "POST", "/v1/login", json={"token": f"guess {n}"}).status_code for n in range(7)]
    assert statuses == [401] * 5 + [429] * 2


def test_pages_of_others_reach_no_route(studio: Studio) -> None:
    app = create_app(studio)
    foreign = [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:7860"},
        {"Host": ""},
        {**LOCAL, "Origin": "http://evil.example"},
        {**LOCAL, "Origin": "null"},
        {**LOCAL, "Origin": "http://127.0.0.1:9999"},
        {**LOCAL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ]
    for method, path in calls(app):
        for headers in foreign:
            response = ask(app, method, filled(path), headers=headers)
            assert response.status_code == 403, (method, path, headers)
    for origin in ("http://127.0.0.1:7860", "http://localhost:7860"):
        headers = {"Host": origin.removeprefix("http://"), "Origin": origin}
        assert ask(app, "GET", "/v1/jobs", headers=headers).status_code == 200


def test_a_form_of_another_page_is_no_request(studio: Studio) -> None:
    """What a page may send without asking first: text/plain, a form, and nothing with a type at all."""
    app = create_app(studio)
    for method, path in calls(app):
        if method not in ("POST", "PUT", "PATCH"):
            continue
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            headers = {"Content-Type": kind} if kind else {}
            response = ask(app, method, filled(path), headers=headers, content=b'{"app":"paint"}')
            status = 400 if path.startswith("/v1/images") else 415  # OpenAI has no 415
            assert response.status_code == status, (method, path, kind)


def test_every_answer_has_the_headers_that_keep_browsers_honest(studio: Studio) -> None:
    app = create_app(studio)
    for method, path in calls(app):
        if path == "/v1/events":  # it does not end
            continue
        response = ask(app, method, filled(path))
        assert response.headers["x-content-type-options"] == "nosniff", path
        assert response.headers["content-security-policy"] == POLICY, path
        assert response.status_code < 500, (method, path, response.text)
    for part in ("'unsafe-inline'", "'unsafe-eval'", "http:", "https:", "*"):
        assert part not in POLICY


SPELLINGS = [
    "..%2f..%2fetc%2fpasswd",
    "..%252f..%252fetc%252fpasswd",
    "..%5c..%5cwindows",
    "%2e%2e%2fstudio.db",
    "....//studio.db",
    "/etc/passwd",
    "//etc/passwd",
    "C:%5cwindows",
    "%00",
    "a%00.png",
    "~root",
    "%2e%2e",  # bare dots are resolved by the client, before they are sent
    "%2e",
    "%c0%ae%c0%ae%2fetc",
    "x" * 5000,
    "studio.db",
    "CON",
    "a b ",
    "a.",
    "%0d%0aX-Evil:%201",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_path_comes_from_a_client(studio: Studio, spelling: str) -> None:
    app = create_app(studio)
    secret = (studio.options.folder / "studio.db").read_bytes()[:16]
    for method, path in calls(app):
        if "{" not in path or path in OPEN:
            continue
        response = ask(app, method, filled(path, spelling))
        assert 400 <= response.status_code < 500 or response.status_code in (307,), (
            method,
            path,
            response.text,
        )
        assert secret not in response.content
        assert b"root:" not in response.content
        assert str(studio.options.folder).encode() not in response.content
    for place in (f"/static/{spelling}", f"/static/../{spelling}"):
        response = ask(app, "GET", place)
        assert response.status_code in (404, 405), (place, response.status_code)


def test_inputs_name_no_paths(studio: Studio, tmp_path: Path) -> None:
    app = create_app(studio)
    secret = tmp_path / "secret.png"
    danqing.paint("x", painter=Toy(), seed=1)[0].save(secret)
    for name, inputs in {
        "redraw": {"image": str(secret), "prompt": "x"},
        "describe": {"image": str(secret)},
        "blend": {"images": [str(secret), "../secret.png"]},
        "learn": {"name": "x", "images": [str(tmp_path)]},
        "paint": {"prompt": f"{secret} x"},
        "inpaint": {"image": f"file://{secret}", "mask": str(secret), "prompt": "x"},
        "animate": {"prompt": "x", "settings": str(secret)},
        "classify": {"pictures": [str(secret)], "model": str(tmp_path)},
    }.items():
        response = ask(app, "POST", "/v1/jobs", json={"app": name, "inputs": inputs})
        assert response.status_code == 422, (name, response.text)
        assert response.json()["error"]["code"] == "bad_request"
    for model in (str(tmp_path), "../..", "stickers/../stickers", "~", ""):
        response = ask(
            app, "POST", "/v1/jobs", json={"app": "paint", "inputs": {"prompt": "x", "model": model}}
        )
        assert response.status_code == 422, (model, response.text)


def test_a_full_queue_says_when_to_come_back(studio: Studio) -> None:
    app, body = create_app(studio), {"app": "paint", "inputs": {"prompt": "a cat"}}
    answers = [ask(app, "POST", "/v1/jobs", json=body) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["error"]["code"] == "queue_full"


def test_others_are_let_in_with_accounts_or_a_token(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.0.2.5", "::"):
        with pytest.raises(BadBrief, match=rf"--host {host} lets others in: .*danqing users add.*--token"):
            _check_closed(ServerOptions(host=host), Accounts(Database(tmp_path / "studio.db")))
    with pytest.raises(BadBrief, match="danqing users add"):
        serve(StudioOptions(tmp_path / "studio"), ServerOptions("0.0.0.0", 0))
    serve_by_proxy = ServerOptions(public_url="https://studio.example.org")
    with pytest.raises(BadBrief, match=r"--public-url https://studio.example.org lets others in"):
        serve(StudioOptions(tmp_path / "studio"), serve_by_proxy)


def test_a_proxy_may_use_its_name(studio: Studio) -> None:
    app = create_app(studio, GuardOptions(token=TOKEN, public_url="https://studio.example.org"))
    headers = {"Host": "studio.example.org", "Origin": "https://studio.example.org"}
    login = ask(app, "POST", "/v1/login", json={"token": TOKEN}, headers=headers)
    assert (login.status_code, "Secure" in login.headers["set-cookie"]) == (204, True)
    for other in ({"Host": "evil.example"}, {**headers, "Origin": "https://evil.example"}):
        assert ask(app, "POST", "/v1/login", json={"token": TOKEN}, headers=other).status_code == 403
