"""A job that an HTTP client waits for: submitted, followed, and cancelled if the client disconnects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from danqing.core.errors import DanqingError
from danqing.interfaces.server.context import identity_of
from danqing.interfaces.server.hub import Hub, Listener, Message
from danqing.studio.browse import Filter
from danqing.studio.errors import JobFailed, record
from danqing.studio.service import Studio
from danqing.studio.tables import JobRow, PictureRow


@dataclass(frozen=True)
class Client:
    """The caller of a request, with the studio."""

    request: Request
    studio: Studio
    hub: Hub
    owner: str

    @classmethod
    def of(cls, request: Request) -> Client:
        """The client of a request."""
        state = request.app.state
        return cls(request, state.studio, state.hub, identity_of(request).owner)

    async def upload(self, data: bytes) -> str:
        """Store a picture of the request. Returns its upload id. Raises as `Uploads.add`."""
        return (await run_in_threadpool(self.studio.store.uploads.add, self.owner, data)).id

    async def submit(self, app: str, inputs: dict[str, Any], key: str | None = None) -> JobRow:
        """Queue a job; inputs that are None are left out. Raises as `Studio.submit`."""
        values = {name: value for name, value in inputs.items() if value is not None}
        self.request.state.inputs = values
        return await run_in_threadpool(self.studio.submit, self.owner, app, values, key)

    async def follow(self, job: str) -> AsyncIterator[Message]:
        """Yield the messages about a job until it is over. If the client disconnects, the job is cancelled.

        Raises:
            JobFailed: the server stops, or closes the connection of an account that has changed. The job is
                cancelled then too, because nobody will get its result.
        """
        over = False
        try:
            async for message in self.hub.messages(Listener(self.owner, job)):
                if message is None and await self.request.is_disconnected():
                    return
                if message is not None:
                    over = over or message.last
                    yield message
            if not over:
                raise JobFailed(
                    record("stopping", "the server ends this connection: ask again when it is back")
                )
        finally:
            if not over:
                await run_in_threadpool(self._give_up, job)

    async def result(self, job: str) -> dict[str, Any]:
        """The result of a job, after it is done. Raises JobFailed: it has failed, or was cancelled."""
        row = await self._wait(job)
        if row.result is None:
            raise _cancel_error(job)
        return row.result

    async def pictures(self, job: str) -> list[PictureRow]:
        """The pictures of a job, after it is done. Raises JobFailed: it has failed, or was cancelled."""
        if rows := await self.some_pictures(job):
            return rows
        raise _cancel_error(job)

    async def some_pictures(self, job: str) -> list[PictureRow]:
        """As `pictures`, but a cancelled job gives the pictures that it has finished."""
        await self._wait(job)
        return await run_in_threadpool(self.pictures_now, job)

    async def _wait(self, job: str) -> JobRow:
        async for _ in self.follow(job):
            pass
        row = await run_in_threadpool(self.studio.store.queue.get, self.owner, job)
        if row.error is not None:
            raise JobFailed(row.error)
        return row

    def pictures_now(self, job: str) -> list[PictureRow]:
        """The pictures that a job has finished so far."""
        rows = self.studio.store.browser.page(Filter(self.owner, job=job, limit=1000))
        return sorted(rows, key=lambda row: row.index)

    def read(self, row: PictureRow) -> bytes:
        """The bytes of a picture's file."""
        return self.studio.store.gallery.path(row.file).read_bytes()

    def _give_up(self, job: str) -> None:
        try:
            self.studio.cancel(self.owner, job)
        except DanqingError:  # the job is over already
            return


def _cancel_error(job: str) -> JobFailed:
    return JobFailed(record("cancelled", f"job {job} was cancelled: ask again"))
