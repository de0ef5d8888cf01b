"""The page: files of a folder, with the page's addresses all leading to the same one."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

import danqing.interfaces

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
    app.mount("/static", StaticFiles(directory=folder))
