"""The settings of a picture as values of a new request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing.apps._other_programs import (
    OtherSettings,
    is_a1111_text,
    read_a1111_text,
    read_other_settings,
)
from danqing.conditioning.parameters import literal
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.errors import BadBrief, BadPicture
from danqing.core.image_ref import ImageLookup, ImageRef

if TYPE_CHECKING:
    from danqing.apps._session import Session

TEXT_MAX = 100_000  # the largest size of a text file in bytes
MODEL = "stickers"  # the default model for settings of another program


def with_settings_of(
    values: Mapping[str, Any], session: Session, image_lookup: ImageLookup
) -> tuple[dict[str, Any], list[str]]:
    """The values, with defaults from the settings of a picture or text in them, and notes on differences.

    A prompt that is a pasted text of A1111's `parameters` is parsed as such.

    Raises:
        BadBrief: the picture has no settings in its metadata.
        BadPicture: it cannot be read.
    """
    chosen = {name: value for name, value in values.items() if value is not None}
    place = chosen.pop("settings_of", None)
    prompt = chosen.get("prompt")
    if place is None and isinstance(prompt, str) and is_a1111_text(prompt):
        settings = read_a1111_text(prompt)
        return (chosen, []) if settings is None else _merge(settings, {**chosen, "prompt": ""}, session)
    if place is None:
        return chosen, []
    ref = place if isinstance(place, ImageRef) else image_lookup(place)
    if ref.path is not None and ref.path.suffix.casefold() == ".txt":
        return _merge(_read_text(ref.path), chosen, session)
    brief = ref.source.brief
    if brief is not None:
        return {**_own(brief), **_not_empty(chosen), "settings_of": ref}, []
    other = None if ref.path is None else read_other_settings(ref.path)
    if other is None:
        raise BadPicture(f"{ref.name!r} does not say how it was painted: use a file as its program saved it")
    return _merge(other, {**chosen, "settings_of": ref}, session)


def settings_of(ref: ImageRef, session: Session) -> tuple[ResolvedBrief, list[str]]:
    """The brief of a picture, and notes on differences if another program painted it.

    Raises:
        BadPicture: its metadata has no settings.
    """
    if ref.source.brief is not None:
        return ref.source.brief, []
    other = None if ref.path is None else read_other_settings(ref.path)
    if other is None:
        raise BadPicture(f"{ref.name!r} does not say how it was painted: use a file as its program saved it")
    card = session.open_card(MODEL)
    fields, notes = other.for_card(card)
    return Brief.of(**fields, model=card.name).resolve(card), notes


def _own(brief: Brief) -> dict[str, Any]:
    """The fields of a brief without its input pictures."""
    fields = brief.model_dump(exclude_defaults=True, exclude={"image", "mask", "strength"})
    return {**fields, "prompt": literal(brief.prompt)}


def _merge(
    settings: OtherSettings, chosen: Mapping[str, Any], session: Session
) -> tuple[dict[str, Any], list[str]]:
    """The user's values, then those of the other program, for the chosen model; and notes."""
    card = session.open_card(str(chosen.get("model", MODEL)))
    fields, notes = settings.for_card(card)
    fields["prompt"] = literal(str(fields["prompt"]))
    return {**fields, **_not_empty(chosen)}, notes


def _not_empty(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chosen.items() if name != "prompt" or str(value).strip()}


def _read_text(path: Path) -> OtherSettings:
    try:
        data = path.read_bytes()[:TEXT_MAX]
        settings = read_a1111_text(data.decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadPicture(f"{str(path)!r} cannot be read as text ({error}): use a file of UTF-8") from None
    if settings is None:
        raise BadBrief(
            f"{str(path)!r} holds no settings of A1111: its last line begins with 'Steps: 20, Sampler: '"
        )
    return settings
