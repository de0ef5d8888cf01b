"""Show which part of a picture each word is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from danqing.apps._inputs import PaintInputs, ResolvedInputs
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.errors import BadBrief
from danqing.core.field_groups import Fast
from danqing.core.image_ref import ImageLookup
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Explain(ResolvedInputs, Fast, PaintInputs):
    """Paint a picture, and show where the network looked for each word of the prompt.

    The maps are its cross-attention, averaged over layers, heads and steps. They need a model of the Stable
    Diffusion kind.
    """

    positional: ClassVar[tuple[str, ...]] = ("prompt",)


def _prepare(values: Mapping[str, Any], session: Session, image_lookup: ImageLookup) -> Explain:
    """Parse the inputs, and resolve their brief with the card of the model."""
    from danqing.apps._name_checks import check_adapters, check_choices, check_sampler
    from danqing.apps._parse import fields_for, split_prompt, validate, with_seed

    fields, parameters = split_prompt(values)
    if parameters.iw is not None or parameters.sref is not None:
        raise BadBrief("--iw and --sref are for paint and imagine: leave them out here")
    if session.painter_is_fixed:
        fields.setdefault("model", session.open_card("").name)
    inputs = with_seed(validate(Explain, fields_for(parameters, fields, session), image_lookup))
    if not inputs.prompt.strip():
        raise BadBrief("prompt is empty: say what to paint, such as 'a red apple, 3d style'")
    inputs.add_notes(*parameters.notes)
    card = session.open_card(inputs.model)
    inputs.check(card)
    brief = inputs.brief().resolve(card)
    inputs.set_resolved(brief)
    check_sampler(brief.sampler)
    check_choices(brief, session)
    check_adapters(inputs.expanded_briefs[0].brief.adapters, inputs.model, session)
    return inputs


@app(
    Explain,
    examples=('danqing explain "a red apple, 3d style"', 'danqing explain "一只猫，水墨风格" --seed 7'),
    prepare=_prepare,
)
def explain(inputs: Explain, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """One sheet with the picture and a heat map for each word.

    Raises:
        BadBrief: the model has no UNet with cross-attention to text, or as `paint`.
    """
    from danqing.apps._explain import explain_picture

    yield explain_picture(inputs, session, progress)
