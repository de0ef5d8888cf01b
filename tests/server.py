"""A server with a real, tiny model on a free port, for tests; and a client for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.tiny import model_folder

ROOT = Path(__file__).parent.parent
PAINT: dict[str, Any] = {"prompt": "a red apple", "model": "tiny", "native": True, "seed": 7, "steps": 4}
LONG = {**PAINT, "steps": 100, "sampler": "ddim"}
OVER = ("done", "failed", "cancelled")


class Server:
    """The process. url: where it answers. command: serve, or studio for the page too."""

    def __init__(self, folder: Path, *options: str, command: str = "serve") -> None:
        self.folder = folder
        if not (folder / "models").exists():
            model_folder(folder / "models" / "tiny")
        arguments = [
            sys.executable,
            "-m",
            "danqing.interfaces.cli",
            command,
            "--port",
            "0",
            "--folder",
            str(folder),
        ]
        self.process = subprocess.Popen(
            [*arguments, "--model", "tiny", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        address = None
        while address is None:
            line = self.process.stdout.readline()
            assert line, f"the server did not start: {self.lines}"
            self.lines.append(line)
            address = re.search(r"http://\S+", line)
        self.url = address[0].rstrip("/")
        self.client = httpx2.Client(base_url=self.url, timeout=60)

    def stop(self, signal: int | None = None) -> int:
        """End it: politely, or with a signal."""
        self.client.close()
        if signal is None:
            self.process.terminate()
        else:
            self.process.send_signal(signal)
        code = self.process.wait(120)
        if self.process.stdout is not None:
            self.lines += self.process.stdout.readlines()
            self.process.stdout.close()
        return code

    def post(self, app: str, **inputs: Any) -> dict[str, Any]:
        """Submit a job."""
        return data(self.client.post("/v1/jobs", json={"app": app, "inputs": inputs}), 202)

    def wait(self, job: str, reached: Any = lambda job: job["state"] in OVER) -> dict[str, Any]:
        """A job, once it is over, or as `reached` wants it."""
        deadline = time.monotonic() + 300
        while not reached(view := data(self.client.get(f"/v1/jobs/{job}"))):
            assert time.monotonic() < deadline, view
            time.sleep(0.05)
        return view

    def paint(self, **inputs: Any) -> dict[str, Any]:
        """A finished picture."""
        job = self.wait(self.post("paint", **{**PAINT, **inputs})["id"])
        assert job["error"] is None
        return data(self.client.get(f"/v1/pictures/{job['pictures'][0]}"))

    @contextmanager
    def events(self, path: str, last: int | None = None) -> Iterator[Iterator[tuple[str, int, Any]]]:
        """The events of a stream: kind, number and data."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        with self.client.stream("GET", path, headers=headers, timeout=60) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            yield _events(response)


def _events(response: httpx2.Response) -> Iterator[tuple[str, int, Any]]:
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif "event" in fields:
            yield fields["event"], int(fields.get("id", 0)), json.loads(fields["data"])
            fields = {}


def data(response: httpx2.Response, status: int = 200) -> Any:
    """What a response says."""
    assert response.status_code == status, f"{response.status_code} {response.text[:500]}"
    return response.json() if response.content else None


def error(response: httpx2.Response, status: int) -> dict[str, Any]:
    """The error that a response tells, in our form."""
    body = data(response, status)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "field", "fix"}
    result: dict[str, Any] = body["error"]
    return result
