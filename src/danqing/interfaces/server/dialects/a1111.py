"""A1111's `/sdapi/v1`: the routes with which its clients paint, and ask for progress.

Progress, interrupt and options are global in A1111; here they concern only the caller.
"""

from __future__ import annotations

import json
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from danqing.core.brief import Brief
from danqing.core.card import Card
from danqing.core.errors import BadBrief
from danqing.core.metadata import Info, write_a1111
from danqing.interfaces.server.dialects._a1111_bodies import ImageToImage, OneImage, TextToImage
from danqing.interfaces.server.dialects._a1111_controlnet import control_inputs
from danqing.interfaces.server.dialects._a1111_models import current_model, known_model
from danqing.interfaces.server.dialects._cards import card_of
from danqing.interfaces.server.dialects._encode import from_base64, to_base64, white_mask
from danqing.interfaces.server.dialects._work import Client
from danqing.studio.tables import PictureRow

router = APIRouter(prefix="/sdapi/v1")


def error_body(status: int, error: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """An error in A1111's form."""
    return status, {
        "error": error["code"],
        "detail": error["message"],
        "body": "",
        "errors": error["message"],
    }


@router.post("/txt2img")
async def txt2img(body: TextToImage, request: Request) -> JSONResponse:
    """Pictures from words."""
    client = Client.of(request)
    model, card = _model(client, body)
    controls = await control_inputs(client, body.alwayson_scripts)
    return await _paint(client, "paint", {**body.inputs(card, model), **body.size(card), **controls}, body)


@router.post("/img2img")
async def img2img(body: ImageToImage, request: Request) -> JSONResponse:
    """Pictures from a picture: inpainted where there is a mask, else redrawn."""
    client = Client.of(request)
    model, card = _model(client, body)
    if not body.init_images:
        raise BadBrief("init_images is empty: send a picture", "init_images")
    source = await client.upload(from_base64(body.init_images[0]))
    inputs = {
        **body.inputs(card, model),
        **await control_inputs(client, body.alwayson_scripts, source),
        "image": source,
        "strength": min(max(body.denoising_strength or 0.01, 0.01), 1.0),
    }
    if body.mask is None:
        return await _paint(client, "redraw", inputs, body)
    mask = await run_in_threadpool(white_mask, from_base64(body.mask), bool(body.inpainting_mask_invert))
    feather = min(max(body.mask_blur or 0, 0), 128)
    inputs = {**inputs, "mask": await client.upload(mask), "feather": feather}
    return await _paint(client, "inpaint", inputs, body)


@router.post("/extra-single-image")
async def extra_single_image(body: OneImage, request: Request) -> JSONResponse:
    """A picture, larger."""
    client = Client.of(request)
    image = await client.upload(from_base64(body.image))
    job = await client.submit("upscale", {"image": image, "model": current_model(client)})
    [row] = await client.pictures(job.id)
    data = await run_in_threadpool(client.read, row)
    return JSONResponse({"image": to_base64(data), "html_info": f"{row.width}x{row.height}"})


@router.post("/interrogate")
async def interrogate(body: OneImage, request: Request) -> JSONResponse:
    """Words for a picture."""
    client = Client.of(request)
    image = await client.upload(from_base64(body.image))
    job = await client.submit("describe", {"image": image, "model": current_model(client)})
    return JSONResponse({"caption": (await client.result(job.id))["lines"][0]})


@router.post("/png-info")
async def png_info(body: OneImage, request: Request) -> JSONResponse:
    """What is written in a picture."""
    client = Client.of(request)
    upload = await client.upload(from_base64(body.image))
    row = await run_in_threadpool(client.studio.store.uploads.get, client.owner, upload)
    brief = None if row.brief is None else Brief.of_mapping(row.brief).complete()
    text = "" if brief is None else write_a1111(brief, Info())
    return JSONResponse({"info": text, "items": {"parameters": text} if text else {}, "parameters": {}})


@router.get("/progress")
def progress(request: Request, skip_current_image: bool = False) -> JSONResponse:
    """How far the caller's running job is; exactly 0 without one."""
    client = Client.of(request)
    jobs = client.studio.store.queue.page(client.owner, states=("running", "queued"), limit=50)
    running = next((job for job in jobs if job.state == "running"), None)
    frame = client.studio.pool.frames.get(running.id) if running else None
    place = client.studio.places().get(running.id) if running else None
    image = frame.preview if frame and not skip_current_image else None
    state = {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": running.id if running else "",
        "job_count": len(jobs),
        "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
        "job_no": frame.picture if frame else 0,
        "sampling_step": frame.step if frame else 0,
        "sampling_steps": frame.of if frame else 0,
    }
    return JSONResponse(
        {
            "progress": frame.part if frame else 0.0,
            "eta_relative": (place.eta if place else None) or 0.0,
            "state": state,
            "current_image": None if image is None else to_base64(image),
            "textinfo": frame.message if frame else None,
        }
    )


@router.post("/interrupt")
@router.post("/skip")
def interrupt(request: Request) -> JSONResponse:
    """Cancel the caller's running job."""
    client = Client.of(request)
    for job in client.studio.store.queue.page(client.owner, states=("running",), limit=10):
        client.studio.cancel(client.owner, job.id)
    return JSONResponse({})


async def _paint(client: Client, app: str, inputs: dict[str, Any], body: TextToImage) -> JSONResponse:
    job = await client.submit(app, inputs, body.force_task_id)
    rows = await client.some_pictures(job.id)
    images = [to_base64(await run_in_threadpool(client.read, row)) for row in rows]
    return JSONResponse(
        {
            "images": images if body.send_images is not False else [],
            "parameters": body.model_dump(exclude={"init_images", "mask"}),
            "info": json.dumps(_info(rows), ensure_ascii=False),
        }
    )


def _info(rows: list[PictureRow]) -> dict[str, Any]:
    """The field `info` of A1111's answers, as far as it has a meaning here."""
    briefs = [Brief.of_mapping(row.brief).complete() for row in rows]
    if not briefs:  # the job was cancelled before its first picture was finished
        return {"all_seeds": [], "all_prompts": [], "infotexts": []}
    first = briefs[0]
    texts = [write_a1111(b, Info.model_validate(row.info)) for b, row in zip(briefs, rows, strict=True)]
    return {
        "prompt": first.prompt,
        "all_prompts": [brief.prompt for brief in briefs],
        "negative_prompt": first.negative_prompt,
        "seed": first.seed,
        "all_seeds": [brief.seeds[0] for brief in briefs],
        "width": rows[0].width,
        "height": rows[0].height,
        "sampler_name": first.sampler,
        "cfg_scale": first.guidance,
        "steps": first.steps,
        "batch_size": len(rows),
        "sd_model_name": first.model,
        "denoising_strength": first.strength,
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": [first.style] if first.style else [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.gmtime(rows[0].created)),
    }


def _model(client: Client, body: TextToImage) -> tuple[str, Card]:
    """The model in the request or in the caller's options, and its card. Raises NotThere."""
    name = (body.override_settings or {}).get("sd_model_checkpoint")
    model = known_model(client, str(name)) if name else current_model(client)
    return model, card_of(client, model)
