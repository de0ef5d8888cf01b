"""The HTTP API, asked over a real socket: docs/serving.md keeps its word."""

from __future__ import annotations

import io
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx2
import pytest
from PIL import Image

from danqing.apps import find_app
from danqing.apps._control_inputs import ControlInputs
from danqing.core.picture import Picture
from danqing.interfaces.server.run import _listen
from danqing.studio.requests import studio_apps
from tests.server import LONG, OVER, PAINT, Server, data, error


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("studio"))
    yield server
    server.stop()
    assert "Traceback" not in "".join(server.lines)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def upload(server: Server, content: bytes, kind: str = "image/png") -> httpx2.Response:
    return server.client.post("/v1/uploads", content=content, headers={"Content-Type": kind})


def test_apps_are_those_of_the_registry(server: Server) -> None:
    apps = data(server.client.get("/v1/apps"))["data"]
    assert [app["name"] for app in apps] == studio_apps()
    for app in apps:
        details = data(server.client.get(f"/v1/apps/{app['name']}?model=tiny"))
        schema = details.pop("schema")
        assert details == app
        assert app["summary"] == find_app(app["name"]).help
        own = set(find_app(app["name"]).inputs.model_fields) - find_app(app["name"]).local_fields
        assert set(schema["properties"]) == own - set(ControlInputs.model_fields)  # no ControlNet is for tiny
        assert all({"title", "group", "advanced"} <= entry.keys() for entry in schema["properties"].values())
    assert error(server.client.get("/v1/apps/pant"), 404)["message"].startswith("unknown app 'pant': did you")
    assert error(server.client.get("/v1/apps/search"), 404)["code"] == "not_found"


def test_models_tell_their_cards(server: Server) -> None:
    models = data(server.client.get("/v1/models"))
    assert models["object"] == "list"
    tiny = next(model for model in models["data"] if model["id"] == "tiny")
    assert (tiny["object"], tiny["owned_by"], tiny["card"]["family"]) == (
        "model",
        "danqing",
        "stable_diffusion",
    )
    assert data(server.client.get("/v1/models/tiny"))["card"] == tiny["card"]
    assert error(server.client.get("/v1/models/%2Fetc"), 404)["code"] == "not_found"
    assert error(server.client.get("/v1/models/tiny/words"), 404)["code"] == "not_found"
    data(server.client.post("/v1/models/tiny/warm"), 202)
    capabilities = data(server.client.get("/v1/capabilities"))
    assert capabilities["search"]["words"]
    assert "tiny" in capabilities["models"]


def test_a_picture_from_words_to_file(server: Server) -> None:
    response = server.client.post("/v1/jobs", json={"app": "paint", "inputs": {**PAINT, "count": 2}})
    job = data(response, 202)
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    job = server.wait(job["id"])
    assert (job["state"], job["expected"], len(job["pictures"]), job["error"]) == ("done", 2, 2, None)
    picture = data(server.client.get(f"/v1/pictures/{job['pictures'][0]}"))
    assert picture["brief"]["prompt"] == picture["prompt"] == "a red apple"
    response = server.client.get(picture["file"])
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    with Image.open(io.BytesIO(response.content)) as image:
        assert "parameters" in image.text
        pixels = image.tobytes()
    bare = server.client.get(f"{picture['file']}?metadata=none&download=true")
    assert "attachment" in bare.headers["content-disposition"]
    with Image.open(io.BytesIO(bare.content)) as image:
        assert (image.text, image.tobytes()) == ({}, pixels)
    small = server.client.get(f"{picture['thumbnail']}?side=128")
    assert small.headers["content-type"] == "image/webp"


def test_painting_again_gives_the_same_pixels(server: Server) -> None:
    first = server.paint(prompt=r"a {red|blue} (fox:1.2) \{x\}", count=1, seed=11)
    drawn = server.wait(server.post("redraw", **{**PAINT, "image": first["id"], "prompt": "a cat"})["id"])
    for picture in (first, data(server.client.get(f"/v1/pictures/{drawn['pictures'][0]}"))):
        again = server.wait(server.post(picture["again"]["app"], **picture["again"]["inputs"])["id"])
        assert again["error"] is None
        files = [f"/v1/pictures/{name}/file?metadata=none" for name in (picture["id"], again["pictures"][0])]
        one, two = (server.client.get(file).content for file in files)
        assert one == two


def test_events_tell_all_and_can_be_resumed(server: Server) -> None:
    job = server.post("paint", **{**LONG, "count": 2})
    with server.events(f"/v1/jobs/{job['id']}/events") as stream:
        events = list(stream)  # it ends by itself
    kinds = [kind for kind, _, _ in events if kind not in ("progress", "position")]
    assert kinds[0] == "job"
    assert kinds[-3:] == ["picture", "picture", "job"]
    assert events[-1][2]["state"] == "done"
    assert events[-1][2]["pictures"] == [e[2]["picture"]["id"] for e in events if e[0] == "picture"]
    steps = [event for kind, _, event in events if kind == "progress"]
    assert {step["of"] for step in steps} == {200}
    assert any((step["preview"] or "").startswith("data:image/jpeg;base64,") for step in steps)
    numbers = [number for kind, number, _ in events if kind in ("job", "picture")]
    assert numbers == sorted(set(numbers))
    over = server.client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": str(numbers[-1])})
    assert over.status_code == 204  # which tells EventSource not to come back
    for cut in range(len(numbers) - 1):
        with server.events(f"/v1/jobs/{job['id']}/events", numbers[cut]) as stream:
            again = [(kind, number) for kind, number, _ in stream if number]
        assert [number for _, number in again] == numbers[cut + 1 :]


def test_one_stream_for_all(server: Server) -> None:
    with server.events("/v1/events") as stream:
        picture = server.paint()
        data(server.client.patch(f"/v1/pictures/{picture['id']}", json={"star": True}))
        kinds = []
        for kind, _, event in stream:
            kinds.append(kind)
            if kind == "gallery":
                assert event["picture"]["star"]
                break
    assert {"job", "picture", "gallery"} <= set(kinds)


def test_cancelling(server: Server) -> None:
    running, waiting = server.post("paint", **{**LONG, "steps": 1000}), server.post("paint", **PAINT)
    assert server.wait(waiting["id"], lambda job: job["position"])["position"] in (1, 2)
    assert data(server.client.delete(f"/v1/jobs/{waiting['id']}"))["state"] == "cancelled"
    server.wait(running["id"], lambda job: job["step"] > 0)
    preview = server.client.get(f"/v1/jobs/{running['id']}/preview")
    assert preview.headers["content-type"] == "image/jpeg"
    assert data(server.client.delete(f"/v1/jobs/{running['id']}"))["cancelling"]
    assert server.wait(running["id"])["state"] == "cancelled"
    assert error(server.client.delete(f"/v1/jobs/{running['id']}"), 409)["code"] == "conflict"


def test_jobs_are_listed_by_page(server: Server) -> None:
    for _ in range(3):
        server.wait(server.post("paint", **PAINT)["id"])
    first = data(server.client.get("/v1/jobs?limit=2&state=done,failed"))
    second = data(server.client.get(f"/v1/jobs?limit=2&state=done,failed&before={first['next']}"))
    ids = [job["id"] for page in (first, second) for job in page["data"]]
    assert ids == sorted(set(ids), reverse=True)
    assert error(server.client.get("/v1/jobs?state=nonsense"), 422)["field"] == "state"


def test_a_mask_is_an_upload_and_the_rest_keeps_its_bytes(server: Server) -> None:
    source = Image.new("RGB", (32, 32), (10, 200, 30))
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 20, 20))
    given, region = (data(upload(server, png(image)), 201) for image in (source, mask))
    assert (given["width"], given["height"], given["format"], given["brief"]) == (32, 32, "png", None)
    assert data(upload(server, png(source)), 201)["id"] == given["id"]
    assert server.client.get(given["file"]).content == png(source)
    inputs = {**PAINT, "image": given["id"], "mask": region["id"], "feather": 0}
    job = server.wait(server.post("inpaint", **inputs)["id"])
    assert job["error"] is None
    picture = data(server.client.get(f"/v1/pictures/{job['pictures'][0]}"))
    assert picture["sources"] == [given["id"], region["id"]]
    with Image.open(io.BytesIO(server.client.get(picture["file"]).content)) as image:
        painted = image.convert("RGB")
    same = [
        painted.getpixel((x, y)) == (10, 200, 30)
        for x in range(32)
        for y in range(32)
        if not mask.getpixel((x, y))
    ]
    assert all(same)


def test_a_tree_has_parents_before_children(server: Server) -> None:
    root = server.paint()
    child = server.wait(server.post("redraw", **{**PAINT, "image": root["id"]})["id"])["pictures"][0]
    tree = data(server.client.get(f"/v1/pictures/{child}/tree"))
    assert tree["root"] == root["id"]
    assert [(p["id"], p["parent"]) for p in tree["data"]] == [(root["id"], None), (child, root["id"])]
    assert data(server.client.get(f"/v1/pictures/{root['id']}"))["children"] == 1


def test_the_gallery_is_searched_and_tidied(server: Server) -> None:
    dragon = server.paint(prompt="一条红色的龙")
    hits = data(server.client.get("/v1/pictures", params={"q": "红色的龙"}))["data"]
    assert (hits[0]["id"], hits[0]["match"]) == (dragon["id"], "words")
    like = data(server.client.get("/v1/pictures", params={"like": dragon["id"]}))["data"]
    assert dragon["id"] not in [hit["id"] for hit in like]
    scores = [hit["score"] for hit in like]
    assert scores == sorted(scores, reverse=True)
    path = f"/v1/pictures/{dragon['id']}"
    assert data(server.client.patch(path, json={"star": True}))["star"]
    assert [p["id"] for p in data(server.client.get("/v1/pictures?star=true&limit=1"))["data"]] == [
        dragon["id"]
    ]
    assert error(server.client.delete(f"{path}?forever=true"), 409)["code"] == "conflict"
    assert data(server.client.delete(path))["trashed"]
    assert data(server.client.get("/v1/pictures?trash=true"))["data"][0]["id"] == dragon["id"]
    data(server.client.delete(f"{path}?forever=true"), 204)
    assert error(server.client.get(path), 404)["code"] == "not_found"


@pytest.mark.parametrize(
    ("inputs", "field", "words"),
    [
        ({"steps": 0}, "steps", "steps 0 is too small: use 1 or more"),
        ({"width": 33}, "width", "width 33 is not a multiple"),
        ({"seed": 2**64}, "seed", "seed"),
        ({"guidance": "hot"}, "guidance", "guidance 'hot' is not a number"),
        ({"count": 65}, "count", "count 65 is too large"),
        ({"stepps": 5}, "stepps", "unknown field 'stepps': did you mean 'steps'?"),
        ({"model": "/etc"}, None, "unknown model '/etc'"),
        ({"model": "../models/tiny"}, None, "unknown model"),
        ({"style": "none such"}, None, "unknown style"),
        ({"image": "/etc/passwd"}, "image", "name a picture by its id"),
        ({"prompt": "/etc/hostname.png a cat"}, None, "id"),
        ({"prompt": "a\0b"}, "prompt", "control character"),
        ({"prompt": ""}, "prompt", "prompt is empty"),
        ({"prompt": 5}, "prompt", "not text"),
        ({"prompt": "x" * 30_000}, "prompt", "30000 characters"),
    ],
)
def test_bad_inputs_are_told_in_a_line(
    server: Server, inputs: dict[str, Any], field: str | None, words: str
) -> None:
    body = {"app": "paint", "inputs": {**PAINT, **inputs}}
    told = error(server.client.post("/v1/jobs", json=body), 422)
    assert told["code"] == "bad_request"
    assert words in told["message"]
    assert field is None or told["field"] == field
    assert "\n" not in told["message"]


def test_bad_bodies_are_told_in_the_same_form(server: Server) -> None:
    post = server.client.post
    json_type = {"Content-Type": "application/json"}
    assert error(post("/v1/jobs", content=b"{", headers=json_type), 422)["code"] == "bad_request"
    assert error(post("/v1/jobs", json={"inputs": {}}), 422)["field"] == "app"
    assert error(post("/v1/jobs", json={"app": "paint", "inputs": []}), 422)["field"] == "inputs"
    assert error(post("/v1/jobs", content=b'{"app":"paint"}'), 415)["code"] == "unsupported_media_type"
    big = b'{"app":"' + b"x" * 3_000_000 + b'"}'
    assert error(post("/v1/jobs", content=big, headers=json_type), 413)["code"] == "too_large"
    chunks = (b"x" * 65536 for _ in range(100))
    assert error(post("/v1/jobs", content=chunks, headers=json_type), 413)["code"] == "too_large"
    assert error(server.client.get("/v1/nothing"), 404)["code"] == "not_found"
    assert error(server.client.put("/v1/jobs"), 405)["code"] == "method_not_allowed"
    assert error(upload(server, b"<svg/>"), 415)["code"] == "unsupported_media_type"
    assert error(upload(server, b"<svg/>", "image/svg+xml"), 415)["code"] == "unsupported_media_type"
    wide = png(Image.new("1", (8000, 4001)))
    assert error(upload(server, wide), 413)["code"] == "too_large"
    half = png(Image.effect_noise((64, 64), 50))[:1500]
    assert error(upload(server, half), 422)["code"] == "bad_picture"


def test_a_key_makes_a_job_once(server: Server) -> None:
    body, key = {"app": "paint", "inputs": PAINT}, {"Idempotency-Key": "abc"}
    one, two = (data(server.client.post("/v1/jobs", json=body, headers=key), 202) for _ in range(2))
    assert one["id"] == two["id"]


def test_metrics_and_health(server: Server) -> None:
    server.paint()
    assert data(server.client.get("/health")) == {"status": "ok"}
    text = server.client.get("/metrics").text
    assert 'danqing_jobs{state="done"}' in text
    assert 'danqing_requests_total{method="GET",status="200"}' in text
    assert data(server.client.get("/openapi.json"))["info"]["title"] == "danqing"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


def test_killing_the_server_loses_nothing(own: Path) -> None:
    server = Server(own)
    jobs = [server.post("paint", **inputs)["id"] for inputs in ({**LONG, "count": 2}, PAINT)]
    with server.events(f"/v1/jobs/{jobs[0]}/events") as stream:
        seen = next(number for kind, number, _ in stream if kind == "picture")
    server.stop(signal.SIGKILL)
    server = Server(own)
    try:
        with server.events("/v1/events", seen) as stream:
            pictures = []
            for kind, _, event in stream:
                if kind == "picture":
                    pictures.append((event["job"], event["index"]))
                if kind == "job" and event["id"] == jobs[1] and event["state"] in OVER:
                    break
        assert pictures == [(jobs[0], 1), (jobs[1], 0)]
        views = [server.wait(job) for job in jobs]
        assert [(view["state"], len(view["pictures"])) for view in views] == [("done", 2), ("done", 1)]
        files = {path.stem for path in (own / "pictures").rglob("*.png")}
        assert files == {picture for view in views for picture in view["pictures"]}
        for path in (own / "pictures").rglob("*.png"):
            Picture.open(path)
    finally:
        server.stop()


def test_ctrl_c_ends_within_a_step_and_the_job_goes_on_later(own: Path) -> None:
    server = Server(own)
    job = server.post("paint", **{**LONG, "steps": 1000})["id"]
    server.wait(job, lambda view: view["step"] > 0)
    stream = urlopen(f"{server.url}/v1/events", timeout=60)  # someone who listens does not hold it up
    assert stream.readline() == b": danqing\n"
    start = time.monotonic()
    assert server.stop(signal.SIGINT) == 0
    assert time.monotonic() - start < 60  # a second or two, where nobody else needs the machine
    stream.close()
    assert "Traceback" not in "".join(server.lines)
    server = Server(own)
    try:
        view = server.wait(job, lambda view: view["step"] > 0)
        assert view["tries"] == 1  # the stop was nobody's fault
    finally:
        server.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_answer_does_not_wait_for_acknowledgements(host: str) -> None:
    """Nagle's algorithm would hold back the second packet of each answer, for 40 ms on Linux."""
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with _listen(host, 0) as server, socket.create_connection(server.getsockname()[:2]):
        connection, _ = server.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
