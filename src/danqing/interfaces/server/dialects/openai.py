"""OpenAI's Images API: generations, edits and variations, also as streams of partial images."""

from __future__ import annotations

import io
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief
from danqing.interfaces.server.dialects._cards import card_of
from danqing.interfaces.server.dialects._encode import convert, from_base64, mask_of_alpha, to_base64
from danqing.interfaces.server.dialects._sizes import nearest_size
from danqing.interfaces.server.dialects._work import Client
from danqing.studio.errors import JobFailed, NotThere
from danqing.studio.tables import JobRow, PictureRow

router = APIRouter()

_NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Options(BaseModel):
    """What all three routes take. Fields of OpenAI that mean nothing here are taken and left aside."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(default=None, max_length=100, examples=["stickers"])
    n: Annotated[int, Field(ge=1, le=10)] | None = 1
    size: str | None = Field(default="auto", pattern=r"^(auto|\d{1,5}x\d{1,5})$", examples=["1024x1024"])
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = "png"
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = 95
    background: Literal["transparent", "opaque", "auto"] | None = "auto"
    quality: str | None = Field(default="auto", max_length=20)
    stream: bool | None = False
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = 0

    def inputs(self, card: Card) -> dict[str, Any]:
        """The inputs of one of our apps."""
        backgrounds = {"transparent": "transparent", "opaque": "white"}
        quick = self.quality == "low" and card.fast is not None
        return {
            "model": self.model or "stickers",
            "count": self.n or 1,
            "background": backgrounds.get(self.background or "auto"),
            "fast": quick or None,
        }


class Generation(Options):
    """The body of a generation."""

    prompt: str = Field(max_length=32_000, examples=["a red apple, 3d style"])
    style: str | None = Field(default=None, max_length=100)

    def inputs(self, card: Card) -> dict[str, Any]:
        """The inputs of `paint`."""
        size: dict[str, Any] = {}
        if self.size and self.size != "auto":
            width, height = map(int, self.size.split("x"))
            width, height = nearest_size(width, height, card)
            size = {"width": width, "height": height}
        style = self.style if self.style in card.styles else None
        return {**super().inputs(card), "prompt": self.prompt, "style": style, **size}


class Edit(Options):
    """The fields of an edit, besides its files."""

    prompt: str = Field(max_length=32_000)
    input_fidelity: Literal["high", "low"] | None = None


@dataclass(frozen=True)
class Answer:
    """How to answer a job.

    kind: prefix of the names of its stream's events.
    """

    client: Client
    job: JobRow
    options: Options
    kind: str


def error_body(status: int, error: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """An error in OpenAI's form; what we call 422 is 400 there."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    body = {"message": error["message"], "type": kind, "param": error["field"], "code": error["code"]}
    return (400 if status in (415, 422) else status), {"error": body}


@router.post("/v1/images/generations", response_model=None)
async def generate(body: Generation, request: Request) -> Response:
    """Pictures from words."""
    client = Client.of(request)
    job = await client.submit("paint", body.inputs(_card(client, body.model)))
    return await _answer(Answer(client, job, body, "image_generation"))


@router.post("/v1/images/edits", response_model=None)
async def edit(request: Request) -> Response:
    """Pictures from pictures: inpainted where there is a mask, else redrawn, several of them blended."""
    client = Client.of(request)
    async with request.form(max_files=17, max_fields=40) as form:
        options = _options(Edit, form)
        images = [await client.upload(data) for data in await _files(form, "image", "image[]")]
        masks = [await client.upload(mask_of_alpha(data)) for data in await _files(form, "mask")]
    if not images:
        raise BadBrief("image is missing: send the picture to edit", "image")
    inputs = {**options.inputs(_card(client, options.model)), "prompt": options.prompt}
    if masks:
        job = await client.submit("inpaint", {**inputs, "image": images[0], "mask": masks[0]})
    elif len(images) > 1:
        job = await client.submit("blend", {**inputs, "images": images})
    else:
        strength = 0.4 if options.input_fidelity == "high" else None
        job = await client.submit("redraw", {**inputs, "image": images[0], "strength": strength})
    return await _answer(Answer(client, job, options, "image_edit"))


@router.post("/v1/images/variations", response_model=None)
async def vary(request: Request) -> Response:
    """Variations of a picture; one that does not say its words is described first."""
    client = Client.of(request)
    async with request.form(max_files=2, max_fields=40) as form:
        options = _options(Options, form)
        images = [await client.upload(data) for data in await _files(form, "image", "image[]")]
    if not images:
        raise BadBrief("image is missing: send the picture to vary", "image")
    inputs = {**options.inputs(_card(client, options.model)), "image": images[0]}
    row = await run_in_threadpool(client.studio.store.uploads.get, client.owner, images[0])
    if row.brief is None:
        describing = await client.submit("describe", {"image": images[0], "model": inputs["model"]})
        inputs["prompt"] = (await client.result(describing.id))["lines"][0]
    job = await client.submit("vary", inputs)
    return await _answer(Answer(client, job, options, "image_variation"))


async def _answer(answer: Answer) -> Response:
    if answer.options.stream:
        return StreamingResponse(_stream(answer), media_type="text/event-stream")
    rows = await answer.client.pictures(answer.job.id)
    body = await run_in_threadpool(_response, answer, rows)
    return JSONResponse(body)


def _response(answer: Answer, rows: list[PictureRow]) -> dict[str, Any]:
    return {
        **_facts(answer.options, rows[0]),
        "data": [_image(answer, row) for row in rows],
        "usage": _NO_USAGE,
    }


def _facts(options: Options, row: PictureRow) -> dict[str, Any]:
    return {
        "created": int(row.created),
        "background": "transparent" if row.brief.get("background") == "transparent" else "opaque",
        "output_format": options.output_format or "png",
        "quality": "low" if row.brief.get("fast") else "high",
        "size": f"{row.width}x{row.height}",
    }


def _image(answer: Answer, row: PictureRow) -> dict[str, Any]:
    """A picture in the requested form: URL or base64; both if the request does not say."""
    options, image = answer.options, dict[str, Any]()
    if options.response_format != "url":
        image["b64_json"] = _base64(answer, row)
    if options.response_format != "b64_json":
        image["url"] = f"{str(answer.client.request.base_url).rstrip('/')}/v1/pictures/{row.id}/file"
    return {**image, "revised_prompt": row.prompt}


def _base64(answer: Answer, row: PictureRow) -> str:
    options = answer.options
    return to_base64(
        convert(answer.client.read(row), options.output_format or "png", options.output_compression or 95)
    )


async def _stream(answer: Answer) -> AsyncIterator[bytes]:
    """Yield partial images at equal intervals of the steps, then the pictures; or the error."""
    try:
        async for event in _partial_images(answer):
            yield event
        for picture in await answer.client.pictures(answer.job.id):
            facts = _facts(answer.options, picture)
            image = await run_in_threadpool(_base64, answer, picture)
            facts["created_at"] = facts.pop("created")
            yield _event(f"{answer.kind}.completed", {**facts, "b64_json": image, "usage": _NO_USAGE})
    except JobFailed as failure:
        yield _event("error", error_body(500, failure.error)[1])


async def _partial_images(answer: Answer) -> AsyncIterator[bytes]:
    options, count = answer.options, 0
    most = options.partial_images or 0
    async for message in answer.client.follow(answer.job.id):
        if message.kind != "progress" or count == most:
            continue
        frame = json.loads(message.data)
        if frame["preview"] and frame["of"] and frame["step"] / frame["of"] >= (count + 1) / (most + 1):
            event = await run_in_threadpool(_partial, options, frame["preview"], count)
            yield _event(f"{answer.kind}.partial_image", event)
            count += 1


def _partial(options: Options, preview: str, index: int) -> dict[str, Any]:
    """A preview as a partial image, in the requested format."""
    with Image.open(io.BytesIO(from_base64(preview)), formats=("JPEG",)) as image:
        buffer, size = io.BytesIO(), f"{image.width}x{image.height}"
        image.save(buffer, (options.output_format or "png").upper())
    return {
        "b64_json": to_base64(buffer.getvalue()),
        "background": options.background or "auto",
        "created_at": int(time.time()),
        "output_format": options.output_format or "png",
        "partial_image_index": index,
        "quality": "auto",
        "size": size,
    }


def _event(kind: str, event: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **event})}\n\n".encode()


def _card(client: Client, model: str | None) -> Card:
    """The card of the named model.

    Raises:
        NotThere: there is no such model.
    """
    name = model or client.studio.options.model
    if name not in client.studio.session.model_places():
        raise NotThere(f"no model {name!r}: choose one of GET /v1/models")
    card = card_of(client, name)
    if Can.WORDS not in card.can and card.prompt_type == "words":
        raise BadBrief(f"model {name!r} does not paint: choose another", "model")
    return card


def _options(kind: type[Any], form: FormData) -> Any:
    """The fields of a form. Raises BadBrief."""
    fields = {name: value for name, value in form.items() if isinstance(value, str) and value != ""}
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise BadBrief(f"{name}: {first['msg']}", name) from None


async def _files(form: FormData, *names: str) -> list[bytes]:
    """The files of a form under any of these names."""
    files = [value for name in names for value in form.getlist(name) if isinstance(value, UploadFile)]
    return [await file.read() for file in files]
