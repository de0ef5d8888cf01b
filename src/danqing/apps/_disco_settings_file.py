"""A film's form with what its settings file says; readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danqing.apps.forms import Animate
from danqing.conditioning.keyframes import Script
from danqing.core.errors import BadBrief
from danqing.families.disco.settings import SettingsFile, read_settings, write_settings


def scripted(form: Animate) -> tuple[Animate, SettingsFile]:
    """The form, its settings file filling what it leaves open; and that file.

    Raises:
        BadBrief: the file cannot be followed, or nobody says what to paint.
    """
    told = SettingsFile() if form.settings is None else read_settings(Path(form.settings))
    known = {name: value for name, value in told.asked.items() if name in Animate.model_fields}
    given = form.model_dump(exclude_unset=True)
    if not form.prompt.strip():
        given.pop("prompt", None)
    filled = Animate.of_values(**{**known, **given})
    if not filled.prompt.strip():
        raise BadBrief("prompt is empty: say what to paint, such as 'a red apple'")
    return filled, told


def settings_text(form: Animate, settings: Mapping[str, Any]) -> str:
    """A settings file that asks for the same film."""
    asked = form.model_dump(mode="json", exclude_unset=True, exclude={"settings", "image"})
    return write_settings(settings, asked, Script.parse(form.prompt))
