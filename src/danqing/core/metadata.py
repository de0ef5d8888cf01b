"""The metadata in a picture file: A1111's `parameters` text for other programs, our JSON to repaint from.

Every gallery reads the A1111 text. It leaves out what common readers would misread. The JSON is exact.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from danqing.core.brief import RESOLVED_FIELDS, Brief, ResolvedBrief
from danqing.core.errors import BadBrief, BadPicture, shorten

PARAMETERS = "parameters"  # A1111's text chunk
DANQING = "danqing"  # our text chunk


class Info(BaseModel):
    """How a picture was made, besides its brief. Keys of newer versions are ignored on reading."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    app: str = Field(default="paint", description="the app that made it")
    seconds: float = Field(default=0.0, ge=0, description="how long it took")
    sampler: str = Field(default="", description="the sampler's name in A1111")
    backend: str = Field(default="eager", description="what executed the networks")
    dropped: str = Field(
        default="", description="words that did not fit the text encoder, or that name nothing a model knows"
    )
    chosen: str = Field(default="", description="the prompt with its wildcards chosen, where it has any")
    unlearned: str = Field(
        default="", description="what the prompt is about, where the model has not learned it"
    )
    mapping: int = Field(default=0, ge=0, description="version of what stylize, chaos and the like mean")
    parent: str | None = Field(default=None, description="the id of the picture it was made from")
    inputs: dict[str, Any] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("inputs", "asked"),  # its name in danqing 0.1
        description="the inputs of the app, as far as they were given",
    )
    versions: dict[str, str] = Field(default_factory=dict, description="danqing and what it ran on")
    unread: tuple[str, ...] = Field(
        default=(), description="keys of the file that this version does not know"
    )


def write_a1111(brief: ResolvedBrief, info: Info) -> str:
    """The text of A1111's `parameters` chunk for a resolved brief.

    Readers of the text split it at "Negative prompt:", "," and ":", and no escape works in all of them. So a
    space is put into a second "Negative prompt:", and a value that would break the text is left out. Our JSON
    has both exactly.
    """
    lines = [_without_mark(info.chosen or brief.prompt)]  # other programs would draw other wildcards
    if brief.negative_prompt.strip():
        lines.append(f"Negative prompt: {_without_mark(brief.negative_prompt)}")
    pairs = {
        "Steps": brief.steps,
        "Sampler": info.sampler or brief.sampler,
        "CFG scale": None if brief.guidance is None else f"{brief.guidance:g}",
        "Seed": brief.seed,
        "Variation seed": brief.variation_seed if brief.variation else None,
        "Variation seed strength": f"{brief.variation:g}" if brief.variation else None,
        "Denoising strength": None if brief.strength is None else f"{brief.strength:g}",
        "Size": f"{brief.width}x{brief.height}",
        "Model": PurePath(brief.model).name,
        "VAE": None if brief.vae is None else PurePath(brief.vae).name,
        "Refiner": None if brief.refiner is None else PurePath(brief.refiner).name,
        "Refiner switch at": None if brief.refiner is None else f"{brief.refiner_at:g}",
        "Style": brief.style,
        "CFG rescale": f"{brief.rescale:g}" if brief.rescale else None,
        "CFG start": f"{brief.guidance_start:g}" if brief.guidance_start else None,
        "CFG end": f"{brief.guidance_end:g}" if brief.guidance_end < 1 else None,
        "RNG": "CPU",
        "Version": f"danqing {info.versions.get('danqing', '')}".strip(),
    }
    lines.append(", ".join(f"{key}: {value}" for key, value in pairs.items() if _fits(value)))
    return "\n".join(lines)


def write_json(brief: ResolvedBrief, info: Info) -> str:
    """The text of our own chunk: the whole brief and info, exactly."""
    record = {
        "brief": brief.model_dump(mode="json"),
        "info": info.model_dump(mode="json", exclude={"unread"}),
    }
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def read_json(text: str) -> tuple[ResolvedBrief, Info]:
    """The brief and the info that `write_json` wrote, here or in another version of danqing.

    Keys that this version does not know are skipped and named in `Info.unread`.

    Raises:
        BadPicture: the text is not our JSON, or its brief is not valid in this version.
    """
    record = _object(text)
    fields = record.get("brief")
    if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str):
        raise BadPicture("its danqing chunk holds no brief; repaint from the original file")
    readable = {key: value for key, value in fields.items() if key in Brief.model_fields}
    unread = tuple(str(key) for key in fields if key not in readable)
    try:
        info = Info.model_validate({**_dict(record.get("info")), "unread": unread})
        brief = Brief.of_values(**readable)
    except BadBrief as error:
        raise BadPicture(f"its brief can no longer be painted: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadPicture(
            f"its danqing chunk is damaged at {where}: {shorten(repr(first['input']))}"
        ) from None
    open_fields = [name for name in RESOLVED_FIELDS if getattr(brief, name) is None]
    if open_fields:
        raise BadPicture(f"its brief leaves {open_fields[0]} open: use the original file")
    return brief.complete(), info


def _object(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise BadPicture("its danqing chunk is not JSON; repaint from the original file")
    return record


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _without_mark(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line).replace("Negative prompt:", "Negative prompt :")


def _fits(value: object) -> bool:
    return value not in (None, "") and not set(str(value)) & set(',:"{}\r\n')
