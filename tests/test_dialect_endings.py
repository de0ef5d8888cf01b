"""Clients of other programs' APIs, who wait while their job is cancelled or the server stops."""

from __future__ import annotations

import json
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from tests.server import LONG, Server, data

IMAGES = "/v1/images/generations"
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (IMAGES, {"prompt": "a cat"}),
    (IMAGES, {"prompt": "a cat", "stream": True}),
    ("/sdapi/v1/txt2img", {"prompt": "a cat"}),
)


def _ask_all(server: Server, pool: ThreadPoolExecutor) -> tuple[list[Future[httpx2.Response]], list[str]]:
    """The requests on their way, behind a job that runs; and the jobs that wait for it."""
    answers = [pool.submit(httpx2.post, server.url + path, json=body, timeout=60) for path, body in REQUESTS]
    while len(jobs := data(server.client.get("/v1/jobs?state=queued"))["data"]) < len(REQUESTS):
        assert not any(answer.done() for answer in answers)
    return answers, [job["id"] for job in jobs]


def _error(answer: Future[httpx2.Response]) -> tuple[int, str]:
    """The status, and the code of the error in the body or in the stream."""
    response = answer.result()
    if "error" not in response.text:
        return response.status_code, ""
    if response.headers["content-type"].startswith("text/event-stream"):
        lines = response.text.splitlines()
        body = json.loads(lines[lines.index("event: error") + 1].removeprefix("data: "))
    else:
        body = response.json()
    error = body["error"]
    return response.status_code, error if isinstance(error, str) else error["code"]


def test_who_waits_hears_that_the_job_was_cancelled_or_the_server_stops(tmp_path: Path) -> None:
    server = Server(tmp_path / "own")
    busy = server.post("paint", **{**LONG, "steps": 1000})["id"]
    server.wait(busy, lambda view: view["step"] > 0)
    with ThreadPoolExecutor() as pool:
        answers, jobs = _ask_all(server, pool)
        for job in jobs:
            data(server.client.delete(f"/v1/jobs/{job}"))
        assert [_error(answer) for answer in answers] == [(409, "cancelled"), (200, "cancelled"), (200, "")]
        assert answers[2].result().json()["images"] == []  # as there, where a job is interrupted
        answers, _ = _ask_all(server, pool)
        assert server.stop(signal.SIGINT) == 0
        assert [_error(answer) for answer in answers] == [
            (503, "stopping"),
            (200, "stopping"),
            (503, "stopping"),
        ]
    assert "Traceback" not in "".join(server.lines)
