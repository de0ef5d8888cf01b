"""A client has the calls of a session, and paints the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import danqing
from danqing.core.progress import Progress
from tests.server import PAINT, Server

FIELDS = {name: value for name, value in PAINT.items() if name != "prompt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studio")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    server = Server(folder, "--token", "open sesame")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(server: Server) -> danqing.Client:
    return danqing.Client(server.url, token="open sesame")


def test_a_client_paints_what_a_session_paints(client: danqing.Client, folder: Path) -> None:
    steps: list[Progress] = []
    there = client.paint("a red apple", count=2, progress=steps.append, **FIELDS)
    session = danqing.Session(models=folder / "models")
    here = session.paint("a red apple", count=2, **FIELDS)
    assert [picture.image.tobytes() for picture in there] == [picture.image.tobytes() for picture in here]
    assert there[0].brief.seed == 7
    assert steps[-1].of == 8
    assert steps[-1].preview is not None
    assert steps[-1].preview().shape[:2] == (1, 3)


def test_a_client_starts_from_pictures_here_and_there(client: danqing.Client, tmp_path: Path) -> None:
    [picture] = client.paint("a red apple", **FIELDS)
    [entry] = client.pictures(limit=1)
    path = picture.save(tmp_path / "apple.png")
    made = [client.redraw(image, "a cat", **FIELDS)[0] for image in (picture, path, entry["id"])]
    assert len({one.image.tobytes() for one in made}) == 1
    red = Image.new("RGB", (32, 32), "red")
    assert len(client.blend([red, entry["id"]], "a cat", count=1, **FIELDS)) == 1
    assert len(client.describe(picture, model="tiny")) == 4


def test_a_client_cancels_what_its_progress_refuses(client: danqing.Client) -> None:
    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.paint("a red apple", progress=stop, **{**FIELDS, "steps": 1000, "sampler": "ddim"})
    assert len(client.paint("a red apple", **FIELDS)) == 1


def test_errors_are_those_of_a_session(client: danqing.Client, server: Server) -> None:
    with pytest.raises(danqing.BadBrief, match="steps 0 is too small"):
        client.paint("a red apple", model="tiny", steps=0)
    with pytest.raises(danqing.BadPicture, match="no picture"):
        client.redraw("nothing.png", "a cat")
    with pytest.raises(AttributeError, match="its apps are"):
        client.pant("a cat")
    with pytest.raises(danqing.DanqingError, match="token"):
        danqing.Client(server.url).models()
    with pytest.raises(danqing.DanqingError, match="no danqing server answers"):
        danqing.Client("http://127.0.0.1:9").models()
