"""Boards: named collections of pictures, each owner's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from danqing.core.errors import BadBrief
from danqing.interfaces.server.app import create_app
from danqing.interfaces.server.guard import Guard
from danqing.studio import boards
from danqing.studio.accounts import Role
from danqing.studio.browse import Filter
from danqing.studio.database import Database
from danqing.studio.errors import Conflict, NotThere
from danqing.studio.service import Studio, StudioOptions
from danqing.studio.store import Store
from danqing.studio.tables import VERSION
from tests.asgi import ask
from tests.test_gallery import add, claim


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "studio")
    yield store
    store.close()


def names(store: Store, owner: str = "me") -> list[tuple[str, int]]:
    return [(board.name, board.count) for board in store.boards.page(owner)]


def on(store: Store, board: str, owner: str = "me") -> list[str]:
    return [row.id for row in store.browser.page(Filter(owner, board=board))]


def test_a_picture_is_on_several_boards_and_counted_on_each(store: Store) -> None:
    first, second = add(store, "a dragon"), add(store, "a pear")
    dragons, all_ = store.boards.add("me", " red   dragons "), store.boards.add("me", "All")
    for picture in (first, second, second):
        store.boards.put("me", all_.id, picture)
    store.boards.put("me", dragons.id, first)
    assert names(store) == [("All", 2), ("red dragons", 1)]
    assert store.boards.get("me", all_.id).cover == second
    assert (on(store, all_.id), on(store, dragons.id)) == ([second, first], [first])
    assert set(store.boards.of_picture(first)) == {all_.id, dragons.id}
    assert store.boards.take("me", all_.id, first).count == 1
    assert store.boards.take("me", all_.id, first).count == 1


def test_what_is_in_the_trash_is_not_counted_and_comes_back(store: Store) -> None:
    picture, board = add(store, "a cat"), store.boards.add("me", "cats")
    store.boards.put("me", board.id, picture)
    store.gallery.change("me", picture, star=None, trashed=True)
    assert (names(store), on(store, board.id)) == ([("cats", 0)], [])
    store.gallery.change("me", picture, star=None, trashed=False)
    assert names(store) == [("cats", 1)]


def test_a_board_ends_and_its_pictures_stay_or_the_other_way_round(store: Store) -> None:
    picture, other = add(store, "a cat"), add(store, "a dog")
    gone, kept = store.boards.add("me", "gone"), store.boards.add("me", "kept")
    for board in (gone, kept):
        store.boards.put("me", board.id, picture)
    store.boards.delete("me", gone.id)
    assert store.gallery.get("me", picture).id == picture
    assert list(store.boards.of_picture(picture)) == [kept.id]
    store.gallery.change("me", picture, star=None, trashed=True)
    store.gallery.delete("me", picture)
    assert names(store) == [("kept", 0)]
    assert store.gallery.get("me", other).id == other


@pytest.mark.parametrize("name", ["", "  \n ", "x" * 61])
def test_names_that_are_no_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(BadBrief, match="use 1 to 60"):
        store.boards.add("me", name)


def test_no_two_boards_of_an_owner_have_one_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    board = store.boards.add("me", "龙")
    store.boards.add("you", "龙")
    with pytest.raises(Conflict, match="there is a board '龙'"):
        store.boards.add("me", "龙 ")
    other = store.boards.add("me", "dragons")
    with pytest.raises(Conflict):
        store.boards.rename("me", other.id, "龙")
    assert store.boards.rename("me", board.id, "龙").name == "龙"
    monkeypatch.setattr(boards, "BOARDS_MAX", 2)
    with pytest.raises(Conflict, match="there are 2 boards"):
        store.boards.add("me", "cats")


def test_boards_and_pictures_of_others_are_not_there(store: Store) -> None:
    mine, theirs = store.boards.add("me", "mine"), store.boards.add("you", "theirs")
    picture, foreign = add(store, "a cat"), add(store, "a dog", claim(store, "you"))
    for act in (
        lambda: store.boards.get("me", theirs.id),
        lambda: store.boards.rename("me", theirs.id, "x"),
        lambda: store.boards.delete("me", theirs.id),
        lambda: store.boards.put("me", theirs.id, picture),
        lambda: store.boards.take("me", theirs.id, picture),
        lambda: store.boards.put("me", mine.id, foreign),
        lambda: store.boards.put("me", mine.id, "nothing"),
    ):
        with pytest.raises(NotThere):
            act()
    store.boards.put("you", theirs.id, foreign)
    assert on(store, theirs.id) == []


def test_the_boards_of_an_account_that_goes_are_its_heirs(store: Store) -> None:
    for name in ("ada", "bob"):
        store.accounts.add(name, "a long password", Role.ADMIN)
    ada, bob = (store.accounts.get(name).id for name in ("ada", "bob"))
    pictures = [add(store, "a cat", claim(store, owner)) for owner in (ada, bob)]
    for owner, picture in zip((ada, bob), pictures, strict=True):
        store.boards.put(owner, store.boards.add(owner, "cats").id, picture)
    store.boards.add(bob, "dogs")
    store.remove_account("bob", "ada")
    assert names(store, ada) == [("cats", 2), ("dogs", 0)]
    assert names(store, bob) == []


def test_a_database_of_before_gets_boards(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "studio.db") as file:
        file.executescript("DROP TABLE board_pictures; DROP TABLE boards; PRAGMA user_version = 2")
    Database(tmp_path / "studio.db").close()
    store = Store(tmp_path)
    assert names(store) == []
    store.close()
    with sqlite3.connect(tmp_path / "studio.db") as file:
        assert file.execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """One that was not started: it answers, and paints nothing."""
    studio = Studio(StudioOptions(tmp_path / "studio", ()))
    yield studio
    studio.close()


def answer(app: Guard, method: str, path: str, status: int = 200, **options: Any) -> Any:
    response = ask(app, method, path, **options)
    assert response.status_code == status, response.text
    return response.json() if response.content else None


def test_boards_over_http(studio: Studio) -> None:
    app, picture = create_app(studio), add(studio.store, "a cat", claim(studio.store, "local"))
    board = answer(app, "POST", "/v1/boards", 201, json={"name": "cats"})["id"]
    answer(app, "POST", "/v1/boards", 409, json={"name": "cats"})
    answer(app, "POST", "/v1/boards", 422, json={"name": ""})
    assert answer(app, "PUT", f"/v1/boards/{board}/pictures/{picture}")["count"] == 1
    assert answer(app, "GET", f"/v1/pictures/{picture}")["boards"] == [board]
    assert [p["id"] for p in answer(app, "GET", f"/v1/pictures?board={board}")["data"]] == [picture]
    assert answer(app, "GET", "/v1/pictures?board=other")["data"] == []
    assert answer(app, "PATCH", f"/v1/boards/{board}", json={"name": "猫"})["name"] == "猫"
    [listed] = answer(app, "GET", "/v1/boards")["data"]
    assert (listed["name"], listed["count"], listed["cover"]) == ("猫", 1, picture)
    assert answer(app, "DELETE", f"/v1/boards/{board}/pictures/{picture}")["count"] == 0
    answer(app, "DELETE", f"/v1/boards/{board}", 204)
    answer(app, "DELETE", f"/v1/boards/{board}", 404)
