"""The model for a client of A1111's interface, which it chooses in its options."""

from __future__ import annotations

from danqing.interfaces.server.dialects._work import Client
from danqing.studio.errors import NotThere


def known_model(client: Client, title: str) -> str:
    """The model's name, from a title that may end with a hash or a file ending. Raises NotThere."""
    name = title.partition(" [")[0]
    places = client.studio.session.model_places()
    for choice in (name, name.removesuffix(".safetensors"), f"{name}.safetensors"):
        if choice in places:
            return choice
    raise NotThere(f"no model {title[:60]!r}: choose one of GET /sdapi/v1/sd-models")


def current_model(client: Client) -> str:
    """The model in the caller's options."""
    return model_choices(client).get(client.owner, client.studio.options.model)


def model_choices(client: Client) -> dict[str, str]:
    """Maps each owner to the model in their options."""
    choices: dict[str, str] = client.request.app.state.a1111_models
    return choices
