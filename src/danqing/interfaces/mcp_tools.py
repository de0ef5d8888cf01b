"""Tools for assistants (Model Context Protocol): each is a call of a danqing server."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError

from danqing.core.errors import DanqingError
from danqing.interfaces.client import Client

Answer = list[Image | str]

_ABOUT = (
    "Paints pictures from words. Tools answer with small pictures and their ids; give an id to change a "
    "picture further. Words may be English or Chinese."
)


def tool_server(url: str, token: str | None = None) -> MCPServer[Any]:
    """The tools, for the danqing server at `url`."""
    tools = Tools(Client(url, token))
    server: MCPServer[Any] = MCPServer("danqing", instructions=_ABOUT)
    for tool in (tools.paint, tools.redraw, tools.inpaint, tools.describe, tools.search_gallery):
        server.tool(structured_output=False)(_with_reasons(tool))
    return server


def _with_reasons(tool: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a tool, so that its errors reach the assistant as one line that says what is wrong."""

    @wraps(tool)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return tool(*args, **options)
        except DanqingError as error:
            raise ToolError(str(error)) from None

    return call


class Tools:
    """The tools; their names, parameters and docstrings are what an assistant sees."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def paint(
        self,
        prompt: str,
        count: int = 1,
        style: str | None = None,
        seed: int | None = None,
        model: str | None = None,
        background: str | None = None,
    ) -> Answer:
        """Paint pictures from words. background: transparent, white or #rrggbb."""
        return self._pictures(
            "paint", prompt=prompt, count=count, style=style, seed=seed, model=model, background=background
        )

    def redraw(self, image: str, prompt: str, strength: float = 0.6, model: str | None = None) -> Answer:
        """Paint a picture anew from words. image: an id. strength: 0.2 touches up, 1 repaints."""
        return self._pictures("redraw", image=image, prompt=prompt, strength=strength, model=model)

    def inpaint(self, image: str, where: str, prompt: str, model: str | None = None) -> Answer:
        """Repaint a part of a picture, the rest stays. image: an id. where: words for the part."""
        return self._pictures("inpaint", image=image, where=where, prompt=prompt, model=model)

    def describe(self, image: str) -> str:
        """Say prompts that could have painted a picture. image: an id."""
        return "\n".join(self._client.run("describe", image=image))

    def search_gallery(self, words: str, count: int = 4) -> Answer:
        """Find pictures that were painted before, by their words and by what they show."""
        return self._with_lines(self._client.pictures(q=words, limit=count))

    def _pictures(self, app: str, **inputs: Any) -> Answer:
        job = self._client.submit(app, **inputs)
        self._client.wait(job)
        view = self._client.job(job)
        return [*view["notes"], *self._with_lines(self._client.pictures(job=job))]

    def _with_lines(self, pictures: list[dict[str, Any]]) -> Answer:
        """The answer with small copies of the pictures, each followed by a line of text."""
        answer: Answer = []
        for picture in sorted(pictures, key=lambda picture: picture["index"]):
            name, size = picture["id"], f"{picture['width']}x{picture['height']}"
            answer.append(f"{name}: {picture['prompt']!r}, seed {picture['seed']}, {size}")
            answer.append(Image(data=self._client.thumbnail(name), format="webp"))
        return answer or ["no pictures"]
