"""Reads and writes Disco Diffusion's settings files for the inputs of videos. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danqing.apps.animate import Animate
from danqing.conditioning.keyframes import Script
from danqing.core.errors import BadBrief
from danqing.families.disco.settings import SettingsFile, read_settings, write_settings


def read_file(settings: str | None) -> SettingsFile:
    """Read the file called `settings`; None gives empty settings. Raises BadBrief if it cannot be used."""
    return SettingsFile() if settings is None else read_settings(Path(settings))


def with_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with those of their settings file where the request has none.

    Raises:
        BadBrief: the file cannot be used, or there is no prompt.
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
    """The text of a settings file that gives the same video."""
    values = inputs.model_dump(mode="json", exclude_unset=True, exclude={"settings"})
    return write_settings(inputs.settings_file.settings, values, Script.parse(inputs.prompt))
