"""The page: files of a folder, with the page's addresses all leading to the same one."""

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
    """Where the files of the page are."""
    return Path(danqing.interfaces.__path__[0]) / "web" / "static"


def add_page(app: FastAPI) -> None:
    """Serve the page; its own addresses are for the page to understand."""
    folder = static_folder()

    def index() -> FileResponse:
        return FileResponse(folder / "index.html", headers={"Cache-Control": "no-cache"})

    for place in PLACES:
        app.add_api_route(place, index, include_in_schema=False, response_class=FileResponse)
    app.add_api_route(MESSAGES, _messages, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=folder))


def _messages(language: str) -> dict[str, str]:
    """Messages in English, with {} for what they name -> those of a language that has them."""
    return catalogue(language).messages if language == "zh" else {}
