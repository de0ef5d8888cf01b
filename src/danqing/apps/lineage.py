"""Paint the same words with every family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from danqing.apps._inputs import AppInputs, SplitAtCommas
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.errors import BadBrief
from danqing.core.field_groups import Fast, SeedChoice, Text, Words
from danqing.core.image_ref import ImageLookup
from danqing.core.progress import ProgressCallback
from danqing.weights.shipped import shipped_models

if TYPE_CHECKING:
    from danqing.apps._lineage import Generation


class Lineage(Fast, SeedChoice, Words, AppInputs):
    """Paint the same words with every generation of the idea, from GAN to Imagen, side by side.

    Under each picture stand its year, paper, time and CLIP score, and how words reach a family that cannot
    read them.
    """

    positional: ClassVar[tuple[str, ...]] = ("prompt",)

    models: Annotated[tuple[Text, ...], SplitAtCommas] | None = Field(
        default=None, description="only these, separated by commas; all that are shipped if not given"
    )


def _prepare(values: Mapping[str, Any], session: Session, image_lookup: ImageLookup) -> Lineage:
    """Parse the inputs; an unknown model is refused before any is opened."""
    from danqing.apps._parse import validate, with_seed

    inputs = validate(Lineage, values, image_lookup)
    for model in inputs.models or ():
        session.card(model)
    if not inputs.prompt.strip():
        raise BadBrief('say what to paint: danqing lineage "a red apple"')
    if inputs.models == ():
        models = values["models"]
        raise BadBrief(f"models {models!r} names none: give some, separated by commas, or leave it out")
    if not (inputs.models or shipped_models()):
        raise BadBrief("no models are shipped with this copy: name folders of weights with --models")
    return with_seed(inputs)


@app(
    Lineage,
    output="lineage",
    examples=(
        'danqing lineage "a red apple"',
        'danqing lineage "一只猫" --models gan,ddpm,stickers --seed 7',
    ),
    prepare=_prepare,
)
def lineage(inputs: Lineage, session: Session, progress: ProgressCallback) -> Iterator[Generation]:
    """Paint one picture with each model, in the order of their papers, with default settings and one seed.

    Raises:
        BadBrief: a model does not support a field.
        BadWeights: a model cannot be opened.
    """
    from danqing.apps._lineage import paint_generations

    return paint_generations(inputs, session, progress)
