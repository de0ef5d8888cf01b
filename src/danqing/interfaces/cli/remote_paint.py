"""`paint` by a server on this computer; by this process what the server does not paint. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from itertools import islice
from typing import Any

from danqing.apps import App, Session
from danqing.apps.paint import Paint
from danqing.conditioning.parameters import literal
from danqing.core.errors import BadPicture, BadWeights, DanqingError, NotFinite
from danqing.core.metadata import read_json, write_json
from danqing.core.picture import Picture
from danqing.core.progress import Progress, ProgressCallback
from danqing.interfaces.client import as_error
from danqing.interfaces.local_client import LocalClient

_SETTLED = {"style_image", "settings_of", "ar", "strict"}  # fields whose meaning is in others by now
_SAME_HERE = (BadPicture, BadWeights, NotFinite)  # errors that this process would meet too

Job = dict[str, Any]
"""A job as the server shows it: see docs/serving.md."""


class _Unpainted(Exception):  # noqa: N818
    """The server does not paint it, or not to the end. reason: in a line; empty where nobody need know."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


def remote_paint(
    app: App[Any, Any], client: LocalClient, inputs: Paint, session: Session, progress: ProgressCallback
) -> Iterator[Picture]:
    """The pictures of `app`, which is `paint`. Whatever is raised here cancels the job. Raises as the app."""
    count = 0
    try:
        for picture in _stream(client, inputs, progress):
            yield picture
            count += 1
    except _Unpainted as error:
        if error.reason:
            progress(Progress(note=error.reason))
        yield from islice(app.run(inputs, session, progress), count, None)


def _stream(client: LocalClient, inputs: Paint, progress: ProgressCallback) -> Iterator[Picture]:
    """The pictures as a server finishes them."""
    job, names = _submit(client, inputs)
    known_notes, fetched = {*job["notes"], *inputs.notes}, set[str]()
    try:
        for kind, data in _events(client, job["id"]):
            if kind == "progress":
                progress(Progress(data["step"], data["of"], data["message"]))
            elif kind == "job":
                job = data
                inputs.add_notes(*(note for note in job["notes"] if note not in known_notes))
                known_notes.update(job["notes"])
            for picture in _pictures_of(kind, data):
                if picture not in fetched:
                    fetched.add(picture)
                    yield _rename_sources(_fetch(client, picture), names)
        _check_end(client, job)
    except BaseException:
        client.cancel(job["id"])
        raise


def _submit(client: LocalClient, inputs: Paint) -> tuple[Job, dict[str, str]]:
    """The job of a request, and the id of its picture on the server with the name that it has here."""
    values = inputs.model_dump(mode="json", exclude_unset=True, exclude=_SETTLED)
    values |= {"prompt": literal(inputs.prompt), "seed": inputs.resolved_brief.seed}
    names: dict[str, str] = {}
    try:
        if inputs.image is not None:
            values["image"] = client.upload(inputs.image.path or "")
            names[values["image"]] = inputs.image.name
        return client.post_job("paint", values), names
    except (DanqingError, OSError, ValueError, HTTPException):
        raise _Unpainted from None


def _events(client: LocalClient, job: str) -> Iterator[tuple[str, Any]]:
    """What happens to a job, as far as the server tells."""
    events = client.events(job)
    while True:
        try:
            event = next(events, None)
        except (DanqingError, OSError, ValueError, HTTPException):
            return
        if event is None:
            return
        yield event


def _pictures_of(kind: str, data: Any) -> list[str]:
    """The ids of the pictures that an event tells of."""
    if kind == "job":
        return list(data["pictures"])
    return [data["picture"]["id"]] if kind == "picture" else []


def _fetch(client: LocalClient, name: str) -> Picture:
    try:
        return client.picture(name)
    except (DanqingError, OSError, HTTPException):
        raise _Unpainted(f"the studio at {client.server.url} stopped: painting here") from None


def _rename_sources(picture: Picture, names: Mapping[str, str]) -> Picture:
    """A picture whose metadata calls others as the command did, not by their ids on the server."""
    if not names:
        return picture
    text = write_json(picture.brief, picture.info)
    for theirs, ours in names.items():
        text = text.replace(json.dumps(theirs), json.dumps(ours, ensure_ascii=False))
    return Picture(picture.image, *read_json(text))


def _check_end(client: LocalClient, job: Job) -> None:
    """Raises what the app raised; DanqingError: somebody cancelled it; _Unpainted: it is not done."""
    if job["state"] == "cancelled":
        raise DanqingError(f"it was cancelled in the studio at {client.server.url}")
    if job["error"] is not None:
        error = as_error(job["error"])
        if isinstance(error, _SAME_HERE):
            raise error
        raise _Unpainted(f"the studio at {client.server.url} failed: painting here")
    if job["state"] != "done":
        raise _Unpainted(f"the studio at {client.server.url} stopped: painting here")
