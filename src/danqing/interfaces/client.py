"""`danqing.Client`: a server's apps as methods, with the same calls as `danqing.Session`. Needs no torch."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, build_opener

from PIL import Image

from danqing.core.errors import BadBrief, BadPicture, BadWeights, DanqingError, NotFinite
from danqing.core.picture import Picture
from danqing.core.progress import Progress, ProgressCallback, no_progress

_KINDS: dict[str, type[DanqingError]] = {
    "bad_request": BadBrief,
    "bad_picture": BadPicture,
    "bad_weights": BadWeights,
    "not_finite": NotFinite,
}
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
_SECONDS = 60.0  # its event streams speak every 15

ImagePlace = str | Path | Image.Image | Picture
"""A picture here, or the id of one there."""


class Client:
    """A danqing server.

        client = danqing.Client("http://127.0.0.1:7860")
        [picture] = client.paint("a red apple, 3d style", seed=7)

    Every app of the server is a method that takes what the method of `Session` takes. Pictures to start from
    are uploaded; their ids on the server do as well.

    token: one of an account there, or what the server was started with; None where it needs none.
    seconds: without a word from the server, after which it is given up. opener: what sends requests.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url, self._token = url.rstrip("/"), token
        self.seconds, self.opener = _SECONDS, build_opener()
        self._apps: dict[str, Any] | None = None

    def apps(self) -> list[str]:
        """The names of the apps."""
        return list(self._app_list())

    def capabilities(self) -> dict[str, Any]:
        """What the server can do, as docs/serving.md tells."""
        return cast("dict[str, Any]", self._get("/v1/capabilities"))

    def models(self) -> list[str]:
        """The names of the models."""
        return [model["id"] for model in self._get("/v1/models")["data"]]

    def submit(self, app: str, *args: Any, **fields: Any) -> str:
        """Ask for something and do not wait; returns the id of the job. Raises as `run`."""
        known_app = self._app_list().get(app)
        if known_app is None:
            raise BadBrief(f"the server has no app {app!r}: choose from {', '.join(self.apps())}")
        values = {**dict(zip(known_app["positional"], args, strict=False)), **fields}
        images = set(known_app["images"])
        inputs = {n: self._image(v) if n in images else v for n, v in values.items() if v is not None}
        return str(self.post_job(app, inputs)["id"])

    def post_job(self, app: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for something in the form of the API, pictures by their ids; returns the job as `job` does."""
        return cast("dict[str, Any]", self._send("POST", "/v1/jobs", {"app": app, "inputs": inputs}))

    def wait(self, job: str, progress: ProgressCallback = no_progress) -> Any:
        """The result of a job: pictures as a list, else what the server tells of lines, rows or an adapter.

        progress: called as the job goes on; whatever it raises cancels the job.

        Raises:
            BadBrief, BadPicture, BadWeights, NotFinite, DanqingError: as the app does, or it was cancelled.
        """
        try:
            for kind, data in self.events(job):
                if kind == "progress":
                    preview = _preview(data["preview"])
                    progress(Progress(data["step"], data["of"], data["message"], preview=preview))
        except DanqingError:
            raise
        except BaseException:
            self.cancel(job)
            raise
        view = self.job(job)
        if view["error"] is not None:
            raise as_error(view["error"])
        if view["state"] != "done":
            raise DanqingError(f"job {job} was {view['state']}: ask again")
        if view["pictures"]:
            return [self.picture(name) for name in view["pictures"]]
        result = view["result"] or {}
        return next(iter(result.values()), [])

    def job(self, job: str) -> dict[str, Any]:
        """How a job stands, as docs/serving.md tells. Raises DanqingError: there is none."""
        return cast("dict[str, Any]", self._get(f"/v1/jobs/{job}"))

    def events(self, job: str) -> Iterator[tuple[str, Any]]:
        """What happens to a job, to its end: kind and data, as docs/serving.md tells."""
        with self._open("GET", f"/v1/jobs/{job}/events", accept="text/event-stream") as response:
            kind = ""
            for line in io.TextIOWrapper(response, "utf-8"):
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)

    def cancel(self, job: str) -> None:
        """Stop a job; one that is over stays as it is."""
        try:
            self._send("DELETE", f"/v1/jobs/{job}")
        except DanqingError:
            return

    def picture(self, name: str) -> Picture:
        """A picture of the gallery, with how it was made. Raises BadPicture: a film has no brief."""
        with self._open("GET", f"/v1/pictures/{name}/file") as response:
            data = response.read()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.png"
            path.write_bytes(data)
            return Picture.open(path)

    def thumbnail(self, name: str) -> bytes:
        """A small WebP of a picture of the gallery. Raises DanqingError: there is none."""
        with self._open("GET", f"/v1/pictures/{name}/thumbnail") as response:
            return bytes(response.read())

    def pictures(self, **which: Any) -> list[dict[str, Any]]:
        """The gallery: newest first, or with `q` by words and meaning, or with `like` by likeness."""
        pairs = {n: str(v).lower() if isinstance(v, bool) else v for n, v in which.items() if v is not None}
        return cast("list[dict[str, Any]]", self._get(f"/v1/pictures?{urlencode(pairs)}")["data"])

    def upload(self, image: ImagePlace) -> str:
        """Give a picture to start from; returns its id. Raises BadPicture, DanqingError."""
        data, kind = _bytes(image)
        with self._open("POST", "/v1/uploads", data, kind) as response:
            return str(json.load(response)["id"])

    def run(self, app: str, *args: Any, progress: ProgressCallback = no_progress, **fields: Any) -> Any:
        """Ask for something and wait. See `submit` and `wait`."""
        return self.wait(self.submit(app, *args, **fields), progress)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._app_list():
            raise AttributeError(f"this server has no {name!r}; its apps are {', '.join(self.apps())}")
        return partial(self.run, name)

    def _app_list(self) -> dict[str, Any]:
        if self._apps is None:
            self._apps = {app["name"]: app for app in self._get("/v1/apps")["data"]}
        return self._apps

    def _image(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._image(each) for each in value]
        is_id = isinstance(value, str) and not Path(value).suffix
        return value if is_id else self.upload(value)

    def _get(self, path: str) -> Any:
        return self._send("GET", path)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with self._open(method, path, data, "application/json") as response:
            text = response.read()
        return json.loads(text) if text else None

    def _open(
        self, method: str, path: str, data: bytes | None = None, kind: str = "", accept: str = "*/*"
    ) -> Any:
        headers = {"Accept": accept, **({"Content-Type": kind} if data is not None else {})}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        request = Request(self.url + path, data, headers, method=method)
        try:
            return self.opener.open(request, timeout=self.seconds)
        except HTTPError as error:
            with error:
                raise as_error(_record(error)) from None
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise DanqingError(f"no danqing server answers at {self.url} ({reason}): start one") from None


def _record(error: HTTPError) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.load(error)["error"]
    except (ValueError, KeyError, TypeError):
        record = {"code": "internal", "message": f"the server answered {error.code} {error.reason}"}
    return record


def as_error(record: Mapping[str, Any]) -> DanqingError:
    """The error that a server tells of."""
    return _KINDS.get(record["code"], DanqingError)(record["message"])


def _preview(url: str | None) -> Any:
    """A preview as `Progress` has it: makes [1 3 h w] in [0, 1]."""
    if url is None:
        return None

    def tensor() -> Any:
        import numpy as np
        import torch

        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
            pixels = np.array(image.convert("RGB"), dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    return tensor


def _bytes(image: ImagePlace) -> tuple[bytes, str]:
    """A picture's file and type: a file as it is, what else there is as a PNG. Raises BadPicture."""
    if isinstance(image, Picture):
        with tempfile.TemporaryDirectory() as folder:
            return image.save(Path(folder) / "picture.png").read_bytes(), "image/png"
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue(), "image/png"
    path = Path(image)
    if path.suffix.lower() not in _TYPES or not path.is_file():
        raise BadPicture(f"no picture at {str(path)!r}: give a PNG, JPEG or WebP, or the id of one")
    return path.read_bytes(), _TYPES[path.suffix.lower()]
