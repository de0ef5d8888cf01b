"""Parses unvalidated values into the inputs of an app: prompt parameters, pictures, model, seed. No torch.

All errors that can be found without opening a model are found here, for every interface of danqing. Each
value is validated once, and each picture is read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from danqing.apps._control_inputs import ControlInputs
from danqing.apps._control_names import check_controls
from danqing.apps._inputs import AppInputs, PaintInputs
from danqing.apps._name_checks import check_adapters, check_choices, check_sampler
from danqing.apps._photos import photo_notes
from danqing.conditioning.parameters import Parameters, brief_fields, needs_card, split
from danqing.conditioning.references import take
from danqing.conditioning.wildcards import choose
from danqing.core.brief import random_seed
from danqing.core.errors import BadBrief
from danqing.core.field_groups import SeedChoice
from danqing.core.image_ref import ImageLookup

if TYPE_CHECKING:
    from danqing.apps._session import Session

InputsT = TypeVar("InputsT", bound=AppInputs)
PaintInputsT = TypeVar("PaintInputsT", bound=PaintInputs)
SeedT = TypeVar("SeedT", bound=SeedChoice)


def parse(
    inputs_type: type[InputsT], values: Mapping[str, Any], session: Session, image_lookup: ImageLookup
) -> InputsT:
    """Parse the inputs of an app that starts from pictures, or needs no model.

    Raises:
        BadBrief: a value is out of range, or the model does not support the request.
        BadPicture: a picture cannot be read.
    """
    fields, parameters = split_prompt(values)
    if parameters.iw is not None or parameters.sref is not None:
        raise BadBrief("--iw and --sref are for paint and imagine: leave them out here")
    fields = brief_fields(parameters, None, fields)
    inputs = validate(inputs_type, fields, image_lookup)
    inputs.add_notes(*parameters.notes, *(note for ref in inputs.image_refs() for note in ref.source.notes))
    inputs.check_pictures()
    if not isinstance(inputs, PaintInputs):
        return inputs
    inputs = with_seed(with_model(inputs, session))
    card = session.card(inputs.model)
    if card is not None:
        inputs.check(card)
    inputs.add_notes(*photo_notes(inputs, card))
    check_sampler(inputs.sampler)
    check_choices(inputs, session)
    _, referenced = take(choose(inputs.prompt, inputs.seed or 0))
    check_adapters({**inputs.adapters, **referenced}, inputs.model, session)
    if isinstance(inputs, ControlInputs):
        check_controls(inputs, session)
    return inputs


def split_prompt(values: Mapping[str, Any]) -> tuple[dict[str, Any], Parameters]:
    """The values with the prompt without parameters, and its parameters."""
    fields = {name: value for name, value in values.items() if value is not None}
    if not isinstance(fields.get("prompt"), str):
        return fields, Parameters()
    words, parameters = split(fields["prompt"])
    return {**fields, "prompt": words}, parameters


def validate(inputs_type: type[InputsT], fields: Mapping[str, Any], image_lookup: ImageLookup) -> InputsT:
    """Validate fields into inputs.

    Raises:
        BadBrief: a value is wrong; the message names the field, the value and what is allowed.
    """
    return inputs_type.of_mapping(fields, {"image_lookup": image_lookup})


def with_seed(inputs: SeedT) -> SeedT:
    """The inputs with a seed; it is drawn before the work, because names of files contain it."""
    return inputs if inputs.seed is not None else inputs.model_copy(update={"seed": random_seed()})


def with_model(inputs: PaintInputsT, session: Session) -> PaintInputsT:
    """The inputs with the model that they name, or else the one that painted the input picture."""
    if session.painter_is_fixed or "model" in inputs.model_fields_set:
        return inputs
    brief = next((ref.source.brief for ref in inputs.image_refs()), None)
    if brief is None:
        return inputs
    same: dict[str, Any] = {"model": brief.model}
    if inputs.vae is None and brief.vae is not None:
        same |= {"vae": brief.vae}
    if inputs.refiner is None and brief.refiner is not None:
        same |= {"refiner": brief.refiner, "refiner_at": brief.refiner_at}
    return inputs.model_copy(update=same)


def fields_for(parameters: Parameters, fields: Mapping[str, Any], session: Session) -> dict[str, Any]:
    """The fields of a brief with the parameters applied, for the model in `fields`."""
    card = session.open_card(str(fields.get("model", "stickers"))) if needs_card(parameters) else None
    return brief_fields(parameters, card, fields)
