"""The routes with which A1111's clients read options and lists before they paint."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from danqing.interfaces.server.dialects._a1111_bodies import SAMPLERS, SCHEDULERS
from danqing.interfaces.server.dialects._a1111_models import current_model, known_model, model_choices
from danqing.interfaces.server.dialects._work import Client

router = APIRouter(prefix="/sdapi/v1")


@router.get("/options")
def get_options(request: Request) -> JSONResponse:
    """The caller's options: the model is all there is to choose."""
    client = Client.of(request)
    return JSONResponse(
        {"sd_model_checkpoint": current_model(client), "samples_format": "png", "sd_vae": "Automatic"}
    )


@router.post("/options")
def set_options(options: dict[str, Any], request: Request) -> JSONResponse:
    """Choose a model; clients send all options back, of which the others are left aside."""
    client, name = Client.of(request), options.get("sd_model_checkpoint")
    if name:
        model_choices(client)[client.owner] = known_model(client, str(name))
    return JSONResponse(None)


def add_info_routes() -> None:
    """Add the routes of the lists."""
    fixed: dict[str, Any] = {
        "schedulers": [{"name": n.lower(), "label": n, "aliases": None} for n in SCHEDULERS],
        "upscalers": [
            {"name": n, "model_name": None, "model_path": None, "scale": 4} for n in ("None", "danqing")
        ],
        "latent-upscale-modes": [{"name": "Latent"}],
        "sd-vae": [],
        "sd-modules": [],
        "hypernetworks": [],
        "face-restorers": [],
        "realesrgan-models": [],
        "embeddings": {"loaded": {}, "skipped": {}},
        "scripts": {"txt2img": [], "img2img": []},
        "script-info": [],
        "extensions": [],
        "cmd-flags": {"api": True},
        "memory": {"ram": {}, "cuda": {}},
    }
    for name, answer in fixed.items():
        router.add_api_route(f"/{name}", _constant(answer), methods=["GET"], summary=name)
    for name in (
        "refresh-checkpoints",
        "refresh-vae",
        "refresh-embeddings",
        "refresh-loras",
        "unload-checkpoint",
    ):
        router.add_api_route(f"/{name}", _constant(None), methods=["POST"], summary=name)


@router.get("/samplers")
def samplers() -> JSONResponse:
    """The samplers by their names there."""
    return JSONResponse(
        [{"name": title, "aliases": [f"k_{ours}"], "options": {}} for title, ours in SAMPLERS.items()]
    )


@router.get("/sd-models")
def sd_models(request: Request) -> JSONResponse:
    """The models that can be chosen."""
    names = Client.of(request).studio.session.model_places()
    fields = {"hash": None, "sha256": None, "config": None}
    return JSONResponse([{"title": n, "model_name": n, "filename": n, **fields} for n in names])


@router.get("/prompt-styles")
def prompt_styles(request: Request) -> JSONResponse:
    """The styles of the chosen model."""
    client = Client.of(request)
    card = client.studio.session.card(current_model(client))
    styles = {} if card is None else card.styles
    return JSONResponse([{"name": n, "prompt": words, "negative_prompt": ""} for n, words in styles.items()])


@router.get("/loras")
def loras(request: Request) -> JSONResponse:
    """What was learned, for `<lora:name:1>`."""
    names = Client.of(request).studio.session.adapter_files()
    return JSONResponse([{"name": n, "alias": n, "path": n, "metadata": {}} for n in names])


def _constant(answer: Any) -> Any:
    def endpoint() -> JSONResponse:
        return JSONResponse(answer)

    return endpoint


add_info_routes()
