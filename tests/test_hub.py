"""Event streams, at the moments when they begin and end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from danqing.interfaces.server.hub import Hub, Listener
from danqing.studio.service import Studio, StudioOptions

SOON = 10.0  # seconds; a stream that nobody ends says something after 15


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    studio = Studio(StudioOptions(tmp_path / "studio", ()))
    yield Hub(studio)
    studio.close()


@pytest.mark.parametrize("before", [0, 1])
def test_a_stream_that_begins_while_the_server_stops_ends(hub: Hub, before: int) -> None:
    """before: how many of its pieces the client has when the server stops; the second waits for news."""

    async def rest() -> list[bytes]:
        stream = hub.stream(Listener("someone"), None)
        for _ in range(before):
            await anext(stream)
        hub.close()
        return [piece async for piece in stream]

    pieces = asyncio.run(asyncio.wait_for(rest(), SOON))
    assert pieces == [b": danqing\n\n"][before:]


def test_a_stream_that_waits_ends_when_the_server_stops(hub: Hub) -> None:
    async def rest() -> list[bytes]:
        stream = hub.stream(Listener("someone"), None)
        assert await anext(stream) == b": danqing\n\n"
        waiting = asyncio.ensure_future(anext(stream, b""))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        hub.close()
        return [await waiting, *[piece async for piece in stream]]

    assert asyncio.run(asyncio.wait_for(rest(), SOON)) == [b": \n\n"]  # a comment, then the end
