"""Parses the inputs of paint and resolves their brief. Only --sref needs torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from danqing.apps._control_names import check_controls
from danqing.apps._name_checks import check_adapters, check_choices, check_sampler
from danqing.apps._parse import fields_for, split_prompt, validate, with_seed
from danqing.apps._photos import photo_notes
from danqing.apps._settings_of import with_settings_of
from danqing.conditioning.parameters import Parameters, image_strength, literal
from danqing.conditioning.prompt import is_chinese
from danqing.core.brief import Brief, ResolvedBrief, sides_like
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief
from danqing.core.image_ref import ImageLookup
from danqing.core.source_image import SUFFIXES
from danqing.data.subjects import find_subject

if TYPE_CHECKING:
    from danqing.apps._session import Session
    from danqing.apps.paint import Paint

PaintT = TypeVar("PaintT", bound="Paint")


def prepare_paint(
    inputs_type: type[PaintT], values: Mapping[str, Any], session: Session, image_lookup: ImageLookup
) -> PaintT:
    """Parse the inputs, and resolve their brief with the card of the model.

    Raises:
        BadBrief: the model does not support the request.
        BadPicture: a picture cannot be read.
    """
    values, notes = with_settings_of(_without_brief(values), session, image_lookup)
    fields, parameters = split_prompt(values)
    if "ar" in fields:
        parameters = replace(parameters, ar=str(fields["ar"]))
    fields = _with_image(fields, parameters, image_lookup)
    if session.painter_is_fixed:  # the metadata shall name the real model
        fields.setdefault("model", session.open_card("").name)
    inputs = validate(inputs_type, fields_for(parameters, fields, session), image_lookup)
    if not inputs.prompt.strip() and inputs.image is None:
        raise BadBrief("prompt is empty: say what to paint, such as 'a red apple, 3d style'")
    pictures = (ref for ref in inputs.image_refs() if ref is not inputs.settings_of)
    inputs.add_notes(*notes, *(note for ref in pictures for note in ref.source.notes))
    inputs.check_pictures()
    card = session.open_card(inputs.model)
    inputs.check(card)
    inputs.add_notes(*photo_notes(inputs, card))
    _note_unlearned(inputs, card)
    check_controls(inputs, session)
    inputs = with_seed(_with_looks(_with_shape_of_control(inputs, card), session, card))
    brief = inputs.brief().resolve(card)
    inputs.add_notes(*_advice(inputs, brief, parameters))
    if brief.cache_interval > 1 and session.backend != "eager":
        inputs.add_notes(f"with cache_interval PyTorch itself runs the UNet, not backend {session.backend!r}")
    inputs.set_resolved(brief)
    check_sampler(brief.sampler)
    check_choices(brief, session)
    for single in inputs.expanded_briefs:
        check_adapters(single.brief.adapters, inputs.model, session)
    return inputs


def _without_brief(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values; a `Brief` as the prompt is replaced by its fields, and its text has no parameters."""
    brief = values.get("prompt")
    if not isinstance(brief, Brief):
        return dict(values)
    if brief.image is not None or brief.mask is not None:
        place = brief.image or brief.mask
        raise BadBrief(f"this brief starts from {place!r}: use the app that made it (danqing show tells)")
    fields = brief.model_dump(exclude_unset=True)
    return {**fields, "prompt": literal(brief.prompt), **{k: v for k, v in values.items() if k != "prompt"}}


def _with_image(
    fields: Mapping[str, Any], parameters: Parameters, image_lookup: ImageLookup
) -> dict[str, Any]:
    """The fields with the pictures in the prompt: the one before its text, and that of --sref."""
    made = dict(fields)
    if parameters.sref is not None:
        made.setdefault("style_image", parameters.sref)
    name, words = _image_in_front(str(fields.get("prompt", "")), image_lookup)
    if name is not None:
        made.update(image=name, prompt=words)
        if parameters.iw is not None or made.get("strength") is None:
            made["strength"] = image_strength(parameters.iw)
    return made


def _image_in_front(words: str, image_lookup: ImageLookup) -> tuple[str | None, str]:
    """The name of a picture at the beginning of a prompt, as in Midjourney, and the rest of the prompt.

    The name may contain spaces; it is None where there is no picture.
    """
    ends = [word.end() for word in re.finditer(r"\S+", words)]
    for end in reversed(ends):
        name = words[:end].strip()
        if PurePath(name).suffix.lower() in SUFFIXES and (end == ends[0] or _exists(name, image_lookup)):
            return name, words[end:].strip()
    return None, words


def _exists(name: str, image_lookup: ImageLookup) -> bool:
    try:
        path = image_lookup(name).path
    except ValueError:
        return False
    return path is None or os.path.isfile(path)  # noqa: PTH113  it stays calm on names too long


def _with_looks(inputs: PaintT, session: Session, card: Card) -> PaintT:
    """The inputs with the background of the input picture, and the style of the --sref picture."""
    changes: dict[str, Any] = {}
    clear = inputs.image is not None and inputs.image.source.image.mode == "RGBA"
    if clear and "background" not in inputs.model_fields_set and Can.ALPHA in card.can:
        changes["background"] = "transparent"
    if inputs.style_image is not None and inputs.style is not None:
        inputs.add_notes("--sref has no effect beside --style")
    elif inputs.style_image is not None:
        from danqing.apps._describe import style_like

        style = style_like(inputs.style_image.source.image, session.classifier(), card)
        inputs.add_notes(f"the style of {inputs.style_image.name} is nearest to {style}")
        changes["style"] = style
    return inputs.model_copy(update=changes)


def _with_shape_of_control(inputs: PaintT, card: Card) -> PaintT:
    """The inputs with the aspect ratio of the first control map, if the user chose no size."""
    if not inputs.control or inputs.image is not None or inputs.width or inputs.height:
        return inputs
    ref = inputs.control[0].image
    width, height = sides_like(ref.source.image.size, card, native=inputs.native)
    inputs.add_notes(f"{width}x{height}, in the shape of {ref.name}")
    return inputs.model_copy(update={"width": width, "height": height})


def _note_unlearned(inputs: Paint, card: Card) -> None:
    """Add a note if the subject of the prompt is not in the training data of the model.

    Raises:
        BadBrief: it is not, and `strict` is set.
    """
    if not card.closed_vocabulary or inputs.image is not None or inputs.adapters:
        return
    subject = find_subject(inputs.prompt)
    if subject.name is not None or not subject.nearest:
        return
    if is_chinese(inputs.prompt):
        nearest = "、".join(subject.nearest)
        line = f"这个模型没有学过“{subject.phrase}”，最接近的是：{nearest}"
    else:
        line = f"this model has not learned {subject.phrase!r}: nearest are {', '.join(subject.nearest)}"
    if inputs.strict:
        raise BadBrief(line)
    inputs.set_unlearned(subject.phrase, line)


def _advice(inputs: Paint, brief: ResolvedBrief, parameters: Parameters) -> list[str]:
    """Notes on effects that the user may not expect."""
    notes = list(parameters.notes)
    if parameters.ar is not None and inputs.image is None:
        ratio = brief.width / brief.height
        size = f"{brief.width}x{brief.height}"
        notes.insert(0, f"ar {parameters.ar} -> {size} ({ratio:.2f}:1, on the model's grid)")
    if parameters.iw is not None and inputs.image is None:
        notes.append("--iw has no effect without a picture: put its file in front of the words")
    if parameters.ar is not None and inputs.image is not None:
        notes.append("--ar has no effect: the picture in front of the words has its own shape")
    if brief.negative_prompt.strip() and brief.guidance == 1:
        notes.append("--no has no effect at guidance 1, which some models paint with when --fast: give more")
    elif brief.negative_prompt.strip() and brief.guidance < 1:
        notes.append(
            f"guidance {brief.guidance:g} leads towards the words of --no, not away: give more than 1"
        )
    if brief.guidance == 1 and (brief.guidance_start, brief.guidance_end) != (0, 1):
        notes.append("guidance_start and guidance_end have no effect at guidance 1, which guides nowhere")
    return notes
