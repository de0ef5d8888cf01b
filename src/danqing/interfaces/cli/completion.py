"""Completes the values of options in a shell, without opening a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

Complete = Callable[[str], list[str]]


def completion(field: FieldInfo) -> Complete | None:
    """The function that completes a field's value from choices or a list of names; None for free text."""
    choices = [str(choice) for choice in _choices(field.annotation)]
    if choices:
        return lambda incomplete: _begin_with(choices, incomplete)
    extra = field.json_schema_extra
    source = extra.get("choices_from") if isinstance(extra, dict) else None
    names = NAMES.get(str(source))
    return None if names is None else lambda incomplete: _begin_with(names(), incomplete)


def _choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, also of an optional one."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((choices for part in get_args(annotation) if (choices := _choices(part))), ())


def _begin_with(names: Iterable[str], begin: str) -> list[str]:
    """The names that begin with a text; in a list separated by commas, the last name is completed."""
    done, comma, last = begin.rpartition(",")
    return [f"{done}{comma}{name}" for name in names if name.startswith(last)]


def models() -> list[str]:
    """The shipped models, and those in the folder `models` of the working directory."""
    from danqing.weights.shipped import shipped_models

    own = Path("models")
    return [*shipped_models(), *(sorted(place.name for place in own.iterdir()) if own.is_dir() else ())]


def styles() -> list[str]:
    """The styles that the shipped models have learned, and the style packs."""
    from danqing.apps import Session
    from danqing.core.card import read_card
    from danqing.weights.shipped import shipped_models

    learned = [style for folder in shipped_models().values() for style in read_card(folder).styles]
    return sorted({*learned, *Session().style_packs()})


def samplers() -> list[str]:
    """The names of the samplers."""
    from danqing.diffusion.sampler_names import sampler_titles

    return sorted(sampler_titles())


def adapters() -> list[str]:
    """The adapters in the folder `adapters` of the working directory."""
    from danqing.apps import Session

    return sorted(Session().adapter_files())


NAMES: dict[str, Callable[[], list[str]]] = {
    "models": models,
    "styles": styles,
    "samplers": samplers,
    "adapters": adapters,
}
"""Maps the `choices_from` of a field to the function that lists the names."""
