"""`danqing mcp`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from danqing.core.errors import DanqingError


def mcp(
    url: Annotated[str, typer.Option(help="Where the server answers.")] = "http://127.0.0.1:7860",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="DANQING_TOKEN",
            help="A token of an account there; or what the server was started with.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Tools for an assistant that speaks the Model Context Protocol, over standard input and output.

    They paint on a running server (danqing studio or danqing serve), and pictures land in its gallery.
    """
    if find_spec("mcp") is None:
        raise DanqingError("danqing mcp needs one more package: pip install 'danqing[mcp]'")

    from danqing.interfaces.mcp_tools import tool_server

    tool_server(url, token).run("stdio")
