"""The OpenAPI description, and requests made of it by schemathesis: whatever is asked, nothing breaks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

schemathesis = pytest.importorskip("schemathesis", reason="THE API WAS NOT FUZZED: pip install schemathesis")

from danqing.interfaces.server.app import create_app  # noqa: E402
from danqing.studio.jobs import Limits  # noqa: E402
from danqing.studio.service import Studio, StudioOptions  # noqa: E402

EXAMPLES = int(os.environ.get("EXAMPLES", "4"))
"""Requests of each route; `python benchmarks/soak.py fuzz` makes 500."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that checks everything and paints nothing: its queue is always full."""
    options = StudioOptions(tmp_path_factory.mktemp("studio"), (), limits=Limits(waiting_per_user=0))
    studio = Studio(options)
    server = uvicorn.Server(uvicorn.Config(create_app(studio), port=0, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
    studio.close()


def test_no_request_breaks_anything(address: str) -> None:
    """Of each route, requests that its description allows and others: all are answered, none with 5xx."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 70
    for operation in operations:
        if operation.path != "/v1/events":  # it never ends
            ask_anything(operation)


def ask_anything(operation: Any) -> None:
    modes = list(schemathesis.GenerationMode)

    @given(case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes)))
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        response = case.call(timeout=60)
        assert response.status_code < 500, (case.as_curl_command(), response.text)

    ask()


def test_every_route_is_described(address: str) -> None:
    api = httpx2.get(f"{address}/openapi.json").json()
    for path, item in api["paths"].items():
        for method, operation in item.items():
            assert operation.get("description") or operation.get("summary"), (method, path)
            assert {str(status)[0] for status in operation["responses"]} >= {"2", "4"}, (method, path)


def test_examples_are_in_the_description(tmp_path: Path) -> None:
    studio = Studio(StudioOptions(tmp_path / "studio", ()))
    schemas = create_app(studio)._app.openapi()["components"]["schemas"]
    studio.close()
    for name in ("JobRequest", "JobView", "PictureView", "AppView", "UserView", "NewUser"):
        assert any("examples" in field for field in schemas[name]["properties"].values()), name
