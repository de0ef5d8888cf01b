"""Serves the page: its static files, and the same index.html for each of its paths."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

import danqing.interfaces
from danqing.core.catalogue import catalogue

MESSAGES = "/static/languages/messages.{language}.json"
PLACES = ("/", "/p/{picture}", "/learn", "/learn/{chapter}")


def static_folder() -> Path:
    """The folder of the page's files."""
    return Path(danqing.interfaces.__path__[0]) / "web" / "static"


def add_page(app: FastAPI) -> None:
    """Add the page's routes; its own scripts interpret the path."""
    folder = static_folder()

    def index() -> FileResponse:
        return FileResponse(folder / "index.html", headers={"Cache-Control": "no-cache"})

    for place in PLACES:
        app.add_api_route(place, index, include_in_schema=False, response_class=FileResponse)
    app.add_api_route(MESSAGES, _messages, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=folder))


def _messages(language: str) -> dict[str, str]:
    """The English messages of the server, with {} for values, and their translations."""
    return catalogue(language).messages if language == "zh" else {}
