"""What is known of a model before it paints for a client of another program."""

from __future__ import annotations

from danqing.core.card import Can, Card
from danqing.interfaces.server.dialects._work import Client

_SKILLS = frozenset({Can.WORDS, Can.NEGATIVE, Can.REDRAW, Can.INPAINT, Can.TILE})


def card_of(client: Client, model: str) -> Card:
    """The card of a model; of one of another program, which has none, what every Stable Diffusion can.

    The server opens no model. Where more is asked of one than it can, the job says so.
    """
    return client.studio.session.card(model) or Card(
        name=model,
        family="stable_diffusion",
        summary="a model of another program",
        paper="2112.10752",
        year=2022,
        licence="unknown",
        width=1024,  # so that sides of up to 2048 are taken as they are
        height=1024,
        size_multiple=64,
        sampler="dpmpp_2m",
        can=_SKILLS,
    )
