"""Paint the same words again, with new seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field

from danqing.apps._inputs import ResolvedInputs
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.brief import random_seed
from danqing.core.field_groups import Seed
from danqing.core.image_ref import ImageLookup, ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback

_AFRESH = {
    "variation": 0.0,
    "variation_seed": None,
    "image": None,
    "mask": None,
    "strength": None,
    "control": (),
    "control_model": (),
    "ip_image": (),
    "ip_adapter": (),
}


class Reroll(ResolvedInputs):
    """Paint the same words again, with new seeds."""

    positional: ClassVar[tuple[str, ...]] = ("image",)
    grid_only: ClassVar[bool] = True

    image: ImageRef = Field(description="a picture or a grid that danqing painted")
    seed: Seed | None = Field(default=None, description="the new seed; random if not given")


def _prepare(values: Mapping[str, Any], session: Session, image_lookup: ImageLookup) -> Reroll:
    """Parse the inputs, with the brief of the picture and a new seed."""
    from danqing.apps._parse import validate
    from danqing.apps._settings_of import settings_of

    inputs = validate(Reroll, values, image_lookup)
    brief, notes = settings_of(inputs.image, session)
    inputs.add_notes(*notes)
    if brief.image is not None or brief.strength is not None or brief.control or brief.ip_image:
        inputs.add_notes("it was made from a picture: only its words are painted again")
    session.card(brief.model)  # raises for an unknown model
    seed = random_seed() if inputs.seed is None else inputs.seed
    inputs.set_resolved(brief.model_copy(update={**_AFRESH, "seed": seed}))
    return inputs


@app(Reroll, examples=("danqing reroll paintings/a-fox-3d-style-7-grid.png",), prepare=_prepare)
def reroll(inputs: Reroll, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Paint the brief of `image` again with new seeds, as many pictures as `image` has.

    Raises:
        BadPicture: the metadata of `image` has no brief.
    """
    from danqing.apps._generate import GenerateOptions, generate

    painter = session.painter_for(inputs.resolved_brief)
    options = GenerateOptions(painter, adapter_files=session.adapter_files())
    return generate(inputs.resolved_brief, options, expanded=inputs.expanded_briefs, progress=progress)
