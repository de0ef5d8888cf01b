"""Variations: redraw a picture with noise that is interpolated between its own and new noise (slerp).

The parent, the amount (subtle or strong) and the seed determine a variation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from danqing.apps._job import Job
from danqing.apps._redraw import redraw_source
from danqing.apps.vary import Vary
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.core.source_image import SourceImage

STRENGTHS = {"subtle": 0.35, "strong": 0.7}  # denoising strength
VARIATIONS = {"subtle": 0.15, "strong": 0.5}  # amount of new noise


def vary_source(job: Job[Vary]) -> Iterator[Picture]:
    """Variations of the job's source.

    Raises:
        BadBrief: there is no prompt, neither in the request nor in the metadata of the picture.
    """
    inputs, source = job.inputs, job.source
    words = job.words()
    if not words["prompt"]:
        raise BadBrief(
            f"{source.name!r} does not say its words: give a prompt, or ask danqing to describe it"
        )
    strength = inputs.strength or STRENGTHS[inputs.how]
    tile = inputs.tile or (Can.TILE in job.card.can and bool(source.brief and source.brief.tile))
    return redraw_source(job, strength=strength, tile=tile, **words, **_noise(inputs, source))


def _noise(inputs: Vary, source: SourceImage) -> dict[str, Any]:
    """The seed fields for noise between that of the parent, if its seed is known, and that of new seeds."""
    if source.brief is None:
        return {}
    return {
        "seed": source.brief.seed,
        "variation": inputs.variation or VARIATIONS[inputs.how],
        "variation_seed": inputs.seed if inputs.variation_seed is None else inputs.variation_seed,
    }
