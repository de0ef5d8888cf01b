"""A server under load: how long a request takes while it paints; and whether any request breaks it.

    python benchmarks/soak.py load --clients 500 --rate 50 --seconds 600
    python benchmarks/soak.py fuzz --examples 500

`load` starts a server with the shipped model and paints one job after the other, first alone and then with
clients: event streams that stay open, and requests for jobs and pictures. A probe asks ten times a second.
`fuzz` makes requests of the OpenAPI description by schemathesis (tests/test_openapi.py, with more examples).
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

ROOT = Path(__file__).parent.parent
PATHS = ("/v1/jobs?limit=20", "/v1/pictures?limit=50", "/v1/models", "/v1/capabilities")
PAINT = {"prompt": "a red apple, 3d style", "native": True, "fast": True}

app = typer.Typer(add_completion=False)


@dataclass
class Figures:
    """What was measured: seconds of each probe and job, and how many answers had which status."""

    probes: list[float] = field(default_factory=list)
    jobs: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    events: int = 0

    def line(self) -> str:
        """All of it in a line."""
        probes = sorted(self.probes)
        p50, p99 = (1000 * probes[int(part * (len(probes) - 1))] for part in (0.5, 0.99))
        job = statistics.median(self.jobs) if self.jobs else float("nan")
        return (
            f"probe p50 {p50:.1f} ms, p99 {p99:.1f} ms ({len(probes)}); {job:.2f} s a picture "
            f"({len(self.jobs)}); {self.events} events; statuses {self.statuses}"
        )


@app.command()
def load(
    clients: Annotated[int, typer.Option(help="Event streams that stay open.")] = 500,
    rate: Annotated[float, typer.Option(help="Further requests a second.")] = 50,
    seconds: Annotated[float, typer.Option(help="How long, alone and under load each.")] = 60,
) -> None:
    """Measure a server while it paints."""
    asyncio.run(_load(clients, rate, seconds))


@app.command()
def fuzz(examples: Annotated[int, typer.Option(help="Requests of each route.")] = 500) -> None:
    """Ask whatever the OpenAPI description allows, and more."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_openapi.py"]
    environment = {**os.environ, "EXAMPLES": str(examples)}
    raise typer.Exit(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)


async def _load(clients: int, rate: float, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            _server(Path(folder)) as (url, process),
            httpx2.AsyncClient(base_url=url, timeout=120) as client,
        ):
            await _paint(client)  # opens the model
            for name, count, further in (("alone", 0, 0.0), ("under load", clients, rate)):
                line = (await _measure(client, count, further, seconds)).line()
                print(f"{name:>10}: {line}; server {_megabytes(process.pid)} MB", flush=True)


async def _measure(client: httpx2.AsyncClient, clients: int, rate: float, seconds: float) -> Figures:
    figures, end = Figures(), time.monotonic() + seconds
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=client.base_url, limits=limits, timeout=None) as many:
        listeners = [asyncio.create_task(_listen(many, figures)) for _ in range(clients)]
        work: list[Coroutine[Any, Any, None]] = [_probe(client, figures, end), _jobs(client, figures, end)]
        work += [_ask(client, figures, end, rate)] if rate else []
        await asyncio.gather(*work)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
    return figures


async def _listen(client: httpx2.AsyncClient, figures: Figures) -> None:
    async with client.stream("GET", "/v1/events") as response:
        async for line in response.aiter_lines():
            figures.events += line.startswith("event:")


async def _probe(client: httpx2.AsyncClient, figures: Figures, end: float) -> None:
    while time.monotonic() < end:
        start = time.perf_counter()
        await client.get("/health")
        figures.probes.append(time.perf_counter() - start)
        await asyncio.sleep(0.1)


async def _jobs(client: httpx2.AsyncClient, figures: Figures, end: float) -> None:
    while time.monotonic() < end:
        figures.jobs.append(await _paint(client))


async def _ask(client: httpx2.AsyncClient, figures: Figures, end: float, rate: float) -> None:
    """`rate` requests a second, whether or not those before are answered."""

    async def one(path: str) -> None:
        status = (await client.get(path)).status_code
        figures.statuses[status] = figures.statuses.get(status, 0) + 1

    start, waiting = time.monotonic(), set[asyncio.Task[None]]()
    while (now := time.monotonic()) < end:
        number = figures.statuses.get(200, 0) + len(waiting)
        if number < (now - start) * rate:
            task = asyncio.create_task(one(PATHS[number % len(PATHS)]))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        else:
            await asyncio.sleep(0.002)
    await asyncio.gather(*waiting)


async def _paint(client: httpx2.AsyncClient) -> float:
    """The seconds that a picture took, as the server counts them."""
    job = (await client.post("/v1/jobs", json={"app": "paint", "inputs": PAINT})).json()["id"]
    while (view := (await client.get(f"/v1/jobs/{job}")).json())["state"] in ("queued", "running"):
        await asyncio.sleep(0.1)
    assert view["state"] == "done", view["error"]
    return float(view["seconds"])


@asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[tuple[str, subprocess.Popen[str]]]:
    command = [
        sys.executable,
        "-m",
        "danqing.interfaces.cli",
        "serve",
        "--port",
        "0",
        "--folder",
        str(folder),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = re.search(r"http://\S+", await asyncio.to_thread(process.stdout.readline))
    assert address is not None
    try:
        yield address[0], process
    finally:
        process.terminate()
        process.wait(60)


def _megabytes(process: int) -> int:
    """Resident memory of a process; 0 where the system does not tell."""
    try:
        text = Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return 0 if found is None else int(found[1]) // 1024


if __name__ == "__main__":
    app()
