"""An assistant paints with the tools of `danqing mcp`, by the real client of the protocol."""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from PIL import Image

from tests.server import ROOT, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("studio"))
    yield server
    server.stop()


def converse(url: str) -> dict[str, Any]:
    """What the tools answer, by what was asked."""
    command = ["-m", "danqing.interfaces.cli", "mcp", "--url", url]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    answers: dict[str, Any] = {}

    async def talk() -> None:
        parameters = StdioServerParameters(command=sys.executable, args=command, env=environment)
        async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
            await session.initialize()
            answers["tools"] = await session.list_tools()
            answers["paint"] = await session.call_tool(
                "paint", {"prompt": "a red apple", "model": "tiny", "count": 2, "seed": 1}
            )
            name = answers["paint"].content[0].text.partition(":")[0]
            answers["redraw"] = await session.call_tool(
                "redraw", {"image": name, "prompt": "a cat", "model": "tiny"}
            )
            answers["describe"] = await session.call_tool("describe", {"image": name})
            answers["search"] = await session.call_tool("search_gallery", {"words": "apple"})
            answers["wrong"] = await session.call_tool("paint", {"prompt": "x", "model": "/etc"})

    anyio.run(talk)
    return answers


def test_an_assistant_paints_and_finds_its_pictures(server: Server) -> None:
    answers = converse(server.url)
    names = {tool.name for tool in answers["tools"].tools}
    assert names == {"paint", "redraw", "inpaint", "describe", "search_gallery"}
    content = answers["paint"].content
    assert [part.type for part in content] == ["text", "image"] * 2
    with Image.open(io.BytesIO(base64.b64decode(content[1].data))) as image:
        assert (image.format, image.size) == ("WEBP", (128, 128))
    assert "'a cat'" in answers["redraw"].content[0].text
    assert len(answers["describe"].content[0].text.splitlines()) == 4
    assert "a red apple" in answers["search"].content[0].text
    assert answers["wrong"].is_error
    assert "unknown model '/etc'" in answers["wrong"].content[0].text
