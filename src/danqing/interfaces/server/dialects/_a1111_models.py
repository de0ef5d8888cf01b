"""Which model paints for a client of A1111's interface: the one that its options name."""

from __future__ import annotations

from danqing.interfaces.server.dialects._work import Client
from danqing.studio.errors import NotThere


def known_model(client: Client, title: str) -> str:
    """A model's name, also with a hash behind it or an ending. Raises NotThere."""
    name = title.partition(" [")[0]
    places = client.studio.session.model_places()
    for choice in (name, name.removesuffix(".safetensors"), f"{name}.safetensors"):
        if choice in places:
            return choice
    raise NotThere(f"no model {title[:60]!r}: choose one of GET /sdapi/v1/sd-models")


def current_model(client: Client) -> str:
    """The model that the caller's options name."""
    return model_choices(client).get(client.owner, client.studio.options.model)


def model_choices(client: Client) -> dict[str, str]:
    """Owner -> the model that they chose."""
    choices: dict[str, str] = client.request.app.state.a1111_models
    return choices
