"""Safe by default: every route there is, asked by strangers, from other pages, and with paths."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.routing import Mount

import danqing
from danqing.core.errors import BadBrief
from danqing.interfaces.server import guard
from danqing.interfaces.server.app import create_app
from danqing.interfaces.server.guard import POLICY, Guard, GuardOptions
from danqing.interfaces.server.run import ServerOptions, serve
from danqing.studio.gallery import NewPicture
from danqing.studio.jobs import Limits, Request
from danqing.studio.service import Studio, StudioOptions
from tests.toy import Toy

TOKEN = "correct horse"
OPEN = {"/health", "/v1/login", "/", "/p/{picture}", "/learn", "/learn/{chapter}"}
LOCAL = {"Host": "127.0.0.1:7860"}

Call = tuple[str, str]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """One that was not started: it answers, and paints nothing."""
    studio = Studio(StudioOptions(tmp_path / "studio", (), limits=Limits(waiting_per_user=3)))
    yield studio
    studio.store.close()
    studio._folder_lock.release()


def calls(app: Guard) -> list[Call]:
    """Method and path of every route."""
    routes = list(_flat(app._app.routes))  # type: ignore[attr-defined]
    known = [(method, route.path) for route in routes for method in sorted(route.methods - {"HEAD"})]
    assert len(known) > 60
    return known


def _flat(routes: Any) -> Iterator[Any]:
    """The routes of an application and of the routers in it; files below /static are asked for apart."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _flat(route.original_router.routes)
        elif not isinstance(route, Mount):
            yield route


def ask(app: Guard, method: str, path: str, **options: Any) -> httpx2.Response:
    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
            return await client.request(method, path, **options)

    return asyncio.run(asyncio.wait_for(send(), 60))  # a stream would never end


def filled(path: str, value: str = "01ARZ3NDEKTSV4RRFFQ69G5FAV") -> str:
    return re.sub(r"\{[^}]+\}", lambda _: value, path)


def test_every_route_needs_the_token(studio: Studio) -> None:
    app = create_app(studio, GuardOptions(token=TOKEN))
    cookie = {"Cookie": f"danqing={GuardOptions(token='other').cookie}"}
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


def test_what_is_somebody_elses_is_not_there(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    store = studio.store
    job = store.queue.submit("you", Request("paint", "toy", {}))
    claim = store.queue.claim("w")
    assert claim is not None
    [made] = danqing.paint("x", painter=Toy(), seed=1)
    picture = store.gallery.add(claim, NewPicture(0, made, made.save))
    assert picture is not None
    app = create_app(studio)

    def statuses() -> dict[Call, int]:
        answers = {}
        for method, path in calls(app):
            ids = {"{job}": job.id, "{picture}": picture}
            name = next((part for part in ids if part in path), None)
            if name and path not in OPEN and not path.endswith("/events"):
                body = {"json": {"star": True}} if method == "PATCH" else {}
                answers[method, path] = ask(app, method, path.replace(name, ids[name]), **body).status_code
        return answers

    assert set(statuses().values()) == {404}
    assert ask(app, "GET", f"/v1/jobs/{job.id}/events").status_code == 404
    for path in ("/v1/jobs", "/v1/pictures", "/v1/pictures?q=x"):
        assert ask(app, "GET", path).json()["data"] == []
    monkeypatch.setattr(guard, "OWNER", "you")
    own = statuses()
    assert {status for call, status in own.items() if call[0] == "GET" and "preview" not in call[1]} == {200}


def test_a_full_queue_says_when_to_come_back(studio: Studio) -> None:
    app, body = create_app(studio), {"app": "paint", "inputs": {"prompt": "a cat"}}
    answers = [ask(app, "POST", "/v1/jobs", json=body) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["error"]["code"] == "queue_full"


def test_others_are_let_in_with_a_token_only(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::"):
        with pytest.raises(BadBrief, match="--token"):
            serve(StudioOptions(tmp_path), ServerOptions(host=host))
