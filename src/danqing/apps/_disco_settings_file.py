"""A film's inputs and Disco Diffusion's settings file. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danqing.apps.animate import Animate
from danqing.conditioning.keyframes import Script
from danqing.core.errors import BadBrief
from danqing.families.disco.settings import SettingsFile, read_settings, write_settings


def read_file(settings: str | None) -> SettingsFile:
    """The file called `settings`; an empty one for None. Raises BadBrief: it cannot be followed."""
    return SettingsFile() if settings is None else read_settings(Path(settings))


def with_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, and what their settings file says of those that are not given.

    Raises:
        BadBrief: the file cannot be followed, or nobody says what to paint.
    """
    chosen = {name: value for name, value in values.items() if value is not None}
    if not str(chosen.get("prompt", "")).strip():
        chosen.pop("prompt", None)
    inputs = read_file(chosen.get("settings")).inputs
    fields = {**{name: value for name, value in inputs.items() if name in Animate.model_fields}, **chosen}
    if not str(fields.get("prompt", "")).strip():
        raise BadBrief("prompt is empty: say what to paint, such as 'a red apple'")
    return fields


def settings_text(inputs: Animate) -> str:
    """A settings file that asks for the same film."""
    values = inputs.model_dump(mode="json", exclude_unset=True, exclude={"settings"})
    return write_settings(inputs.settings_file.settings, values, Script.parse(inputs.prompt))
