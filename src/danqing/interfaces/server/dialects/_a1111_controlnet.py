"""Translates the units of A1111's ControlNet extension to inputs of our apps."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from danqing.apps import choices_of_controls, is_ip_adapter
from danqing.core.control import CONTROL_KINDS, STRENGTH_MAX
from danqing.core.errors import BadBrief, shorten
from danqing.interfaces.server.dialects._encode import from_base64
from danqing.interfaces.server.dialects._work import Client

UNITS_MAX = 8
_FIELD = "alwayson_scripts"
_NOTHING = ("", "none")


class ControlUnit(BaseModel):
    """A picture to follow. Fields that mean nothing here are taken and left aside.

    image: in base64, or a mapping that has it as `image`; None is the picture that is redrawn.
    module: what makes a map of the picture; "none" where it is a map already.
    model: the ControlNet, T2I-Adapter or IP-Adapter, perhaps with a hash; "None" finds one by `module`.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    enabled: bool = True
    image: str | dict[str, Any] | None = Field(
        default=None, validation_alias=AliasChoices("image", "input_image")
    )
    module: str | None = "none"
    model: str | None = "None"
    weight: float = Field(default=1.0, ge=0, le=STRENGTH_MAX)
    guidance_start: float = Field(default=0.0, ge=0, lt=1)
    guidance_end: float = Field(default=1.0, gt=0, le=1)

    @property
    def model_name(self) -> str | None:
        """The name of the model without a hash; None if the unit names no model."""
        name = (self.model or "").partition(" [")[0].strip()
        return None if name.lower() in _NOTHING else name

    @property
    def is_image_prompt(self) -> bool:
        """Whether the unit is an image prompt for an IP-Adapter, and not a control map."""
        return is_ip_adapter(self.model_name or self.module or "")

    @property
    def kind(self) -> str:
        """The key in `CONTROL_KINDS` of its map. Raises BadBrief: the map cannot be computed here."""
        module = (self.module or "").lower()
        if module in _NOTHING:
            if self.model_name is None:
                raise BadBrief("a unit of controlnet names neither module nor model: name one", _FIELD)
            return "none"
        kind = next((name for name, kind in CONTROL_KINDS.items() if kind.is_for(module)), "")
        if not kind or not (CONTROL_KINDS[kind].computed or kind == "tile"):
            raise BadBrief(
                f"module {shorten(module)!r} is not here: send its map with module 'none', or use one of "
                f"{', '.join(MODULES)}",
                _FIELD,
            )
        return kind


MODULES = ("none", *(name for name, kind in CONTROL_KINDS.items() if kind.computed), "tile")


async def control_inputs(
    client: Client, scripts: dict[str, Any] | None, source: str | None = None
) -> dict[str, Any]:
    """Upload the pictures of the units in `alwayson_scripts`. Returns the fields of `ControlInputs`.

    source: the upload that is redrawn, for units without a picture.

    Raises:
        BadBrief: a unit is not valid, has no picture, or needs a map that cannot be computed here.
    """
    units = _units(scripts)
    fields: dict[str, Any] = {}
    for names, pictures, image_prompts in (
        ("control_model", "control", False),
        ("ip_adapter", "ip_image", True),
    ):
        chosen = [unit for unit in units if unit.is_image_prompt is image_prompts]
        chosen.sort(key=lambda unit: unit.model_name is None)  # names belong to the first pictures
        if chosen:
            fields[pictures] = [await _picture(client, unit, source) for unit in chosen]
            fields[names] = [name for unit in chosen if (name := unit.model_name) is not None]
    return fields


async def control_lists(client: Client) -> dict[str, list[str]]:
    """The names of models and modules, in the form of the extension's lists."""
    choices = await run_in_threadpool(choices_of_controls, client.studio.session)
    models = [*choices.get("control_model", []), *choices.get("ip_adapter", [])]
    return {
        "model_list": models,
        "module_list": [*MODULES, *(["ip-adapter"] if "ip_adapter" in choices else [])],
    }


def _units(scripts: dict[str, Any] | None) -> list[ControlUnit]:
    """The enabled units."""
    script = next((value for name, value in (scripts or {}).items() if name.lower() == "controlnet"), None)
    values = script.get("args") if isinstance(script, dict) else script
    if not isinstance(values, list | None) or len(values or ()) > UNITS_MAX:
        raise BadBrief(f"controlnet takes a list of at most {UNITS_MAX} units as args", _FIELD)
    try:
        units = [ControlUnit.model_validate(value) for value in values or ()]
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise BadBrief(
            f"a unit of controlnet is wrong: {name} {shorten(repr(fault['input']))}: {fault['msg'].lower()}",
            _FIELD,
        ) from None
    return [unit for unit in units if unit.enabled]


async def _picture(client: Client, unit: ControlUnit, source: str | None) -> dict[str, Any]:
    """The unit as an entry of `control` or `ip_image`."""
    entry = {} if unit.is_image_prompt else {"kind": unit.kind}
    data = unit.image.get("image") if isinstance(unit.image, dict) else unit.image
    if data:
        image = await client.upload(from_base64(data))
    elif source is not None:
        image = source
    else:
        raise BadBrief("a unit of controlnet has no image: send one in base64", _FIELD)
    return {
        **entry,
        "image": image,
        "strength": unit.weight,
        "start": unit.guidance_start,
        "end": unit.guidance_end,
    }
