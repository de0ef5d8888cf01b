"""A small hub on loopback: the routes that huggingface_hub asks, with redirects, ranges and faults."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """repo: what it holds, below `root`. cut: after so many bytes the first answer with a file stops.

    gated, wrong_hash: faults. fetched: the files that were asked for.
    """

    def __init__(self, repo: str, root: Path) -> None:
        self.repo, self.root = repo, root
        self.cut, self.gated, self.wrong_hash = 0, False, False
        self.fetched: list[str] = []

    def files(self) -> list[Path]:
        return [path for path in sorted(self.root.rglob("*")) if path.is_file()]

    def info(self) -> dict[str, object]:
        siblings = []
        for path in self.files():
            entry: dict[str, object] = {
                "rfilename": str(path.relative_to(self.root)),
                "size": path.stat().st_size,
            }
            if path.suffix == ".safetensors":
                entry["lfs"] = {"sha256": self.hash_of(path), "size": path.stat().st_size, "pointerSize": 130}
            siblings.append(entry)
        card = {"license": "openrail++"}
        return {"id": self.repo, "sha": COMMIT, "siblings": siblings, "cardData": card, "tags": []}

    def hash_of(self, path: Path) -> str:
        return "0" * 64 if self.wrong_hash else hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The address of a running hub."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            pass

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/cdn/"):
                return self.send_file(hub.root / path.removeprefix("/cdn/"))
            if path.removeprefix("/api/models/").partition("/revision/")[0] == hub.repo:
                return self.send_json(hub.info())
            if not path.startswith(f"/{hub.repo}/resolve/"):
                return self.refuse(404, "RepoNotFound")
            if hub.gated:
                return self.refuse(403, "GatedRepo")
            name = path.removeprefix(f"/{hub.repo}/resolve/").partition("/")[2]
            file = hub.root / name
            if not file.is_file():
                return self.refuse(404, "EntryNotFound")
            if file.suffix != ".safetensors":
                return self.send_file(file, {"ETag": f'"{hashlib.sha1(file.read_bytes()).hexdigest()}"'})
            self.send_response(302)
            self.send_header("Location", f"/cdn/{name}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{hub.hash_of(file)}"')
            self.send_header("X-Linked-Size", str(file.stat().st_size))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None

        def send_json(self, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def send_file(self, file: Path, headers: dict[str, str] | None = None) -> None:
            body, asked = file.read_bytes(), self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").partition("-")[0] or 0) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hub.hash_of(file)}"')
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            hub.fetched.append(str(file.relative_to(hub.root)))
            if hub.cut and file.suffix == ".safetensors":
                body, hub.cut = body[: start + hub.cut], 0
                self.close_connection = True
            self.wfile.write(body[start:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
