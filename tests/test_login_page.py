"""A studio with accounts in a real browser: in, tokens, people, and out again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from danqing.studio.accounts import Role
from danqing.studio.store import Store
from tests.server import Server
from tests.test_studio_page import AXE, DRAFT, Visitor, chromium, expect, pytestmark

__all__ = ["chromium", "pytestmark"]

PASSWORD = "correct horse"
SHOTS = os.environ.get("SCREENSHOTS")
"""A folder for pictures of each state, where someone wants to look at them."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A studio with an admin and a user, mei and lin; its client is lin's."""
    folder = tmp_path_factory.mktemp("house")
    store = Store(folder)
    store.accounts.add("mei", PASSWORD, Role.ADMIN)
    lin = store.accounts.add("lin", PASSWORD, Role.USER)
    _, token = store.accounts.new_token(lin.id, "tests")
    store.close()
    server = Server(folder, "--no-browser", command="studio")
    server.client.headers["Authorization"] = f"Bearer {token}"
    yield server
    server.stop()
    assert "Traceback" not in "".join(server.lines)


@pytest.fixture
def visit(chromium: Any, house: Server) -> Iterator[Any]:
    visitors: list[Visitor] = []

    def come(**options: Any) -> Visitor:
        visitors.append(Visitor(chromium, house.url, DRAFT, **options))
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.complaints = [text for text in visitor.complaints if "401" not in text]  # it asks who it is
        visitor.leave()


def log_in(visitor: Visitor, name: str, password: str = PASSWORD) -> None:
    visitor.page.get_by_label("Name").fill(name)
    visitor.page.get_by_label("Password").fill(password)
    visitor.page.get_by_role("button", name="Log in").click()


def shoot(visitor: Visitor, name: str) -> None:
    if SHOTS:
        visitor.page.wait_for_timeout(300)
        visitor.page.screenshot(path=Path(SHOTS) / f"{name}.png")


def serious(visitor: Visitor) -> list[Any]:
    """What axe finds, where it is installed."""
    if not AXE.is_file():
        return []
    visitor.page.evaluate(AXE.read_text("utf-8"))
    found = visitor.page.evaluate("axe.run()")["violations"]
    return [one["id"] for one in found if one["impact"] in ("serious", "critical")]


def test_in_and_out(visit: Any, house: Server) -> None:
    picture = house.paint()["id"]  # of lin's
    visitor = visit()
    page = visitor.page
    visitor.open("/?drawer=models")
    expect(page.get_by_label("Name")).to_be_focused()
    assert serious(visitor) == []
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_label("帐号")).to_be_focused()
    page.get_by_role("button", name="English").click()
    log_in(visitor, "lin", "wrong horse")
    expect(page.get_by_role("alert")).to_have_text("name or password is wrong: try again")
    shoot(visitor, "login-wrong")
    log_in(visitor, "lin")
    expect(page.get_by_role("dialog", name="Models")).to_be_visible()  # where one wanted to go
    visitor.open("/")
    expect(page.locator(f'[data-picture="{picture}"]')).to_be_visible()
    visitor.open("/?drawer=settings")
    expect(page.get_by_text("lin · user")).to_be_visible()
    expect(page.get_by_role("button", name="People")).to_have_count(0)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Name")).to_be_visible()
    log_in(visitor, "mei")
    expect(page.locator(".example")).to_have_count(12)  # nothing of lin's
    visitor.open(f"/p/{picture}")
    expect(page.get_by_text("There is no such picture")).to_be_visible()
    visitor.complaints = [text for text in visitor.complaints if "404" not in text]


def test_tokens_and_people(visit: Any, house: Server) -> None:
    visitor = visit()
    page = visitor.page
    log_in(visitor, "mei")
    expect(page.locator("#prompt")).to_be_visible()
    visitor.open("/?drawer=account")
    page.get_by_label("What it is for").fill("a script")
    page.get_by_role("button", name="Make a token").click()
    secret = page.locator(".secret code").text_content()
    assert re.fullmatch(r"dq-[\w-]{43}", secret or "")
    assert house.client.get("/v1/me", headers={"Authorization": f"Bearer {secret}"}).json()["name"] == "mei"
    shoot(visitor, "account")
    assert serious(visitor) == []
    page.locator(".people li").filter(has_text="a script").get_by_role("button", name="Remove").click()
    expect(page.locator(".people li")).to_have_count(0)
    assert house.client.get("/v1/me", headers={"Authorization": f"Bearer {secret}"}).status_code == 401

    visitor.open("/?drawer=people")
    expect(page.locator(".people li")).to_have_count(2)
    page.get_by_label("Name").fill("gus")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Role", exact=True).select_option("guest")
    page.get_by_role("button", name="Add an account").click()
    expect(page.locator(".people li")).to_have_count(3)
    page.get_by_label("Role of gus").select_option("user")
    gus = page.locator(".people li").filter(has=page.get_by_label("Role of gus"))
    gus.get_by_text("Remove", exact=True).click()
    shoot(visitor, "people")
    assert serious(visitor) == []
    gus.get_by_role("button", name="Remove gus").click()
    expect(page.locator(".people li")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_runs_over_the_edge(visit: Any, scheme: str, width: int) -> None:
    visitor = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)
    expect(visitor.page.get_by_label("Name")).to_be_visible()
    shoot(visitor, f"login-{width}-{scheme}")
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert visitor.page.evaluate(over) <= 0
    assert serious(visitor) == []
    log_in(visitor, "mei")
    expect(visitor.page.locator("#prompt")).to_be_visible()
    for drawer in ("settings", "account", "people"):
        visitor.open(f"/?drawer={drawer}")
        expect(visitor.page.locator("dialog")).to_be_visible()
        shoot(visitor, f"{drawer}-{width}-{scheme}")
        assert visitor.page.evaluate(over) <= 0


def test_a_session_that_ends_elsewhere_asks_again(visit: Any, house: Server) -> None:
    visitor = visit()
    log_in(visitor, "lin")
    expect(visitor.page.locator("#prompt")).to_be_visible()
    store = Store(Path(house.folder))
    store.accounts.set_password("lin", PASSWORD)
    store.close()
    expect(visitor.page.get_by_label("Name")).to_be_visible()  # by the stream of events, which was ended
    log_in(visitor, "lin")
    expect(visitor.page.locator("#prompt")).to_be_visible()
