"""Adds the settings of `danqing config` to the values of a request, which take precedence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danqing.apps import App
from danqing.conditioning.parameters import split
from danqing.core.field_groups import ModelChoice, Words
from danqing.core.image_ref import ImageLookup


def with_defaults(
    app: App[Any, Any], values: Mapping[str, Any], config: Mapping[str, str], image_lookup: ImageLookup
) -> dict[str, Any]:
    """The values, with the model and the style of the settings where they are missing.

    A picture whose metadata names its model uses that model. The default style is used only if there is no
    input picture, and only with the model of the settings.
    """
    made = dict(values)
    if "model" in values:
        return made
    if "style" in config and _takes_style(app, values):
        made["style"] = config["style"]
    if "model" in config and issubclass(app.inputs, ModelChoice):
        if isinstance(made.get("image"), str):
            made["image"] = image_lookup(made["image"])
            if made["image"].source.brief is not None:
                return made
        made["model"] = config["model"]
    return made


def _takes_style(app: App[Any, Any], values: Mapping[str, Any]) -> bool:
    if app.inputs.positional != ("prompt",) or not issubclass(app.inputs, Words):
        return False
    _, parameters = split(str(values.get("prompt", "")))
    return not {"style", "style_image", "image"} & values.keys() and not (parameters.style or parameters.sref)


def with_places(app: App[Any, Any], extra: Mapping[str, Any], config: Mapping[str, str]) -> dict[str, Any]:
    """The output options of a command, with folder and format of the settings where they are missing."""
    places: dict[str, Any] = {"ending": f".{config.get('format', 'png')}"}
    if "folder" in config and extra.get("out") is None and app.output in ("pictures", "lineage"):
        places["out"] = f"{config['folder']}/"
    return {**extra, **places}
