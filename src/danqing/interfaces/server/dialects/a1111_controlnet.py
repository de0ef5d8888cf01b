"""The routes of A1111's ControlNet extension: its lists, and control maps of pictures."""

from __future__ import annotations

import io

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from danqing.core.control import CONTROL_KINDS
from danqing.core.errors import BadBrief
from danqing.interfaces.server.dialects._a1111_controlnet import UNITS_MAX, ControlUnit, control_lists
from danqing.interfaces.server.dialects._encode import from_base64, to_base64
from danqing.interfaces.server.dialects._work import Client

router = APIRouter(prefix="/controlnet")


class Detection(BaseModel):
    """The body of detect."""

    model_config = ConfigDict(extra="ignore")

    controlnet_module: str = "none"
    controlnet_input_images: list[str] = Field(min_length=1, max_length=UNITS_MAX)


@router.get("/version")
def version() -> JSONResponse:
    """The version of this interface."""
    return JSONResponse({"version": 2})


@router.get("/settings")
def settings() -> JSONResponse:
    """How many units a request may have."""
    return JSONResponse({"control_net_unit_count": UNITS_MAX})


@router.get("/model_list")
async def model_list(request: Request) -> JSONResponse:
    """The ControlNets, T2I-Adapters and IP-Adapters that are here."""
    return JSONResponse({"model_list": (await control_lists(Client.of(request)))["model_list"]})


@router.get("/module_list")
async def module_list(request: Request) -> JSONResponse:
    """What makes maps of pictures here."""
    modules = (await control_lists(Client.of(request)))["module_list"]
    return JSONResponse(
        {"module_list": modules, "module_detail": {name: {"sliders": []} for name in modules}}
    )


@router.post("/detect")
async def detect(body: Detection, request: Request) -> JSONResponse:
    """Maps of pictures."""
    client = Client.of(request)
    kind = ControlUnit(module=body.controlnet_module, model="any").kind
    uploads = [await client.upload(from_base64(data)) for data in body.controlnet_input_images]
    maps = [await run_in_threadpool(_map_of, client, upload, kind) for upload in uploads]
    return JSONResponse({"images": maps, "info": "Success"})


def _map_of(client: Client, upload: str, kind: str) -> str:
    """The control map of an upload, a PNG in base64; the upload itself if such maps are not computed."""
    image = client.studio.store.image_lookup(client.owner)(upload).source.image.convert("RGB")
    if CONTROL_KINDS[kind].computed:
        try:
            from danqing.effects.control_maps import control_map
        except ImportError:
            raise BadBrief(f"{kind} needs OpenCV: pip install 'danqing[photos]'") from None
        image = control_map(image, kind)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return to_base64(buffer.getvalue())
