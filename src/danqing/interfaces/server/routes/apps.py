"""Routes for apps, models and adapters."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from danqing.apps import App, choices_of_controls
from danqing.core.card import Card
from danqing.core.errors import BadBrief
from danqing.data.vocabulary import vocabulary
from danqing.interfaces.server.context import Name, StudioParam
from danqing.interfaces.server.views import Page
from danqing.studio.errors import NotThere
from danqing.studio.requests import studio_app, studio_apps
from danqing.studio.service import Studio

router = APIRouter()


class AppView(BaseModel):
    """Something one can ask for."""

    name: str = Field(examples=["inpaint"])
    summary: str = Field(examples=["Repaint a part of a picture, or mend it."])
    description: str
    output: str = Field(examples=["pictures"])
    needs: list[str] = Field(examples=[["inpaint"]])
    images: list[str] = Field(examples=[["image", "mask"]])
    positional: list[str]
    examples: list[str]


class AppDetails(AppView):
    """An app with the JSON schema of its inputs."""

    schema_: dict[str, Any] = Field(serialization_alias="schema")


class ModelView(BaseModel):
    """A model; the first four fields are those of OpenAI's API."""

    id: str = Field(examples=["stickers"])
    object: str = "model"
    created: int = 0
    owned_by: str = "danqing"
    warm: bool
    card: Card | None


class Models(BaseModel):
    """All models, also as OpenAI's API lists them."""

    object: str = "list"
    data: list[ModelView]


class LearnedThing(BaseModel):
    """Something that a model has learned to paint."""

    en: str
    zh: str


class AdapterView(BaseModel):
    """Something that was learned from a few pictures. trigger: what paints it, in a prompt."""

    name: str
    trigger: str
    created: float


@router.get("/v1/apps")
def list_apps() -> Page[AppView]:
    """All that one can ask for."""
    return Page(data=[AppView(**_facts(studio_app(name))) for name in studio_apps()])


@router.get("/v1/apps/{name}")
def get_app(name: Name, studio: StudioParam, model: str = Query("stickers", max_length=100)) -> AppDetails:
    """An app, with the schema of its inputs; choices are those of `model`.

    What a picture may follow is offered for models that other programs made, which ControlNets are for.
    """
    try:
        app = studio_app(name)
    except BadBrief as error:
        raise NotThere(str(error)) from None
    is_here = model in studio.session.model_places()
    card = studio.session.card(model) if is_here else None
    controls = choices_of_controls(studio.session) if is_here and card is None else {}
    return AppDetails(**_facts(app), schema_=app.schema(card, local=False, controls=controls))


@router.get("/v1/models")
def list_models(studio: StudioParam) -> Models:
    """The models that can be named in a request."""
    return Models(data=[_model(studio, name) for name in studio.session.model_places()])


@router.get("/v1/models/{name}")
def get_model(name: Name, studio: StudioParam) -> ModelView:
    """One model."""
    _check(studio, name)
    return _model(studio, name)


@router.get("/v1/models/{name}/words")
def list_words(name: Name, studio: StudioParam) -> Page[LearnedThing]:
    """What a model has learned to paint, where that is a list."""
    _check(studio, name)
    card = studio.session.card(name)
    if card is None or not card.closed_vocabulary:
        raise NotThere(f"model {name!r} has no list of what it has learned: give it any words")
    return Page(data=[LearnedThing(en=en, zh=zh) for en, zh in vocabulary().items()])


@router.post("/v1/models/{name}/warm", status_code=202)
def warm_model(name: Name, studio: StudioParam) -> ModelView:
    """Open a model before it is needed."""
    _check(studio, name)
    studio.pool.tell("open", name)
    return _model(studio, name)


@router.get("/v1/adapters")
def list_adapters(studio: StudioParam) -> Page[AdapterView]:
    """What was learned from a few pictures."""
    files = studio.session.adapter_files().items()
    return Page(
        data=[AdapterView(name=n, trigger=f"<{n}>", created=path.stat().st_mtime) for n, path in files]
    )


def _facts(app: App[Any, Any]) -> dict[str, Any]:
    return {
        "name": app.name,
        "summary": app.help,
        "description": " ".join((app.inputs.__doc__ or "").split()),
        "output": app.output,
        "needs": sorted(app.inputs.needs),
        "images": list(app.image_fields),
        "positional": list(app.inputs.positional),
        "examples": list(app.examples),
    }


def _model(studio: Studio, name: str) -> ModelView:
    return ModelView(id=name, warm=name in studio.pool.open_models, card=studio.session.card(name))


def _check(studio: Studio, name: str) -> None:
    if name not in studio.session.model_places():
        raise NotThere(f"no model {name[:60]!r}: choose one of GET /v1/models")
