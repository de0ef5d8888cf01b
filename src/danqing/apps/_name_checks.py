"""Refuses unknown names in a request before a model is opened. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from danqing.core.errors import BadBrief, unknown
from danqing.diffusion.sampler_names import sampler_titles
from danqing.tuning.adapter_names import find_adapter_file, merge_weights

if TYPE_CHECKING:
    from danqing.apps._inputs import PaintInputs
    from danqing.apps._session import Session
    from danqing.core.brief import Brief


def check_sampler(name: str | None) -> None:
    """Refuse an unknown sampler; None and "" mean the default.

    Raises:
        BadBrief: there is none of that name; the message names the nearest.
    """
    if name and name not in sampler_titles():
        raise BadBrief(unknown("sampler", name, sampler_titles()))


def check_choices(choice: Brief | PaintInputs, session: Session) -> None:
    """Refuse an unknown VAE or refiner.

    Raises:
        BadBrief: there is none of that name; the message names the nearest.
    """
    if choice.vae is not None:
        session.vae_place(choice.vae)
    if choice.refiner is not None:
        session.place_of(choice.refiner)


def check_adapters(names: Iterable[str], model: str, session: Session) -> None:
    """Refuse adapters that neither the model nor the session has.

    Raises:
        BadBrief: there is none of that name; the message names the nearest.
    """
    places = session.adapter_files(model)
    for name in merge_weights(dict.fromkeys(names, 1.0), places):
        find_adapter_file(name, places, named_only=places.named_only)
