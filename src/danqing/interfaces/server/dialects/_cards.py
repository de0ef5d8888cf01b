"""The cards of models, for the translation of requests."""

from __future__ import annotations

from danqing.core.card import Can, Card
from danqing.interfaces.server.dialects._work import Client

_SKILLS = frozenset({Can.WORDS, Can.NEGATIVE, Can.REDRAW, Can.INPAINT, Can.TILE})


def card_of(client: Client, model: str) -> Card:
    """The card of a model.

    For one of another program, which has none, a card of what all Stable Diffusions can.

    The server opens no models. If a request needs more than the model can, its job fails with a message.
    """
    return client.studio.session.card(model) or Card(
        name=model,
        family="stable_diffusion",
        summary="a model of another program",
        paper="2112.10752",
        year=2022,
        licence="unknown",
        width=1024,  # so that sides up to 2048 pixels are accepted unchanged
        height=1024,
        size_multiple=64,
        sampler="dpmpp_2m",
        can=_SKILLS,
    )
