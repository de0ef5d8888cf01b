"""Names in a request that mean nothing are refused before a model is opened. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from danqing.core.errors import BadBrief, unknown
from danqing.diffusion.sampler_names import sampler_titles
from danqing.tuning.adapter_names import find_adapter_file, merge_weights

if TYPE_CHECKING:
    from danqing.apps._session import Session


def check_sampler(name: str | None) -> None:
    """Refuse a sampler that does not exist; None and "" are no choice.

    Raises:
        BadBrief: there is none of that name; names the nearest.
    """
    if name and name not in sampler_titles():
        raise BadBrief(unknown("sampler", name, sampler_titles()))


def check_vae(name: str | None, session: Session) -> None:
    """Refuse an autoencoder that is not there; None is no choice.

    Raises:
        BadBrief: there is none of that name; names the nearest.
    """
    if name is not None:
        session.vae_place(name)


def check_adapters(names: Iterable[str], model: str, session: Session) -> None:
    """Refuse adapters that neither the model nor the session has.

    Raises:
        BadBrief: there is none of that name; names the nearest.
    """
    places = session.adapter_files(model)
    for name in merge_weights(dict.fromkeys(names, 1.0), places):
        find_adapter_file(name, places, named_only=places.named_only)
