"""The settings of Disco Diffusion, with the names of the original, and its settings files.

A schedule such as "[12]*400+[4]*600" is parsed here; the original evaluates it as code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from danqing.conditioning.keyframes import Script
from danqing.core.errors import BadBrief, shorten

CLIP_SCALE = 1000.0  # `clip_guidance_scale` of a brief's guidance of 1
TIMES = 1000  # entries of a schedule, noisiest first

_STRETCH = re.compile(r"\s*\[\s*([0-9]{1,4}(?:\.[0-9]{0,6})?|\.[0-9]{1,6})\s*\]\s*\*\s*([0-9]{1,4})\s*")
_SPARE: tuple[object, ...] = (None, False, "", 0, {}, [], "Linear")  # off, or the default
_EVERLASTING = 10_000  # the original's default of max_frames


@dataclass(frozen=True)
class Course:
    """A number for each of 1000 times, noisiest first.

    stretches: pairs of a number and a count, in order.
    """

    stretches: tuple[tuple[float, int], ...]

    @classmethod
    def parse(cls, text: str) -> Course:
        """Parse a text such as "[12]*400+[4]*600".

        Raises:
            ValueError: the text cannot be parsed, or its counts do not sum to 1000.
        """
        matches = [_STRETCH.fullmatch(part) for part in text.split("+")]
        stretches = tuple((float(each[1]), int(each[2])) for each in matches if each is not None)
        if len(stretches) < len(matches):
            raise ValueError(f"{shorten(text)!r} is no schedule: write it as [12]*400+[4]*600")
        total = sum(count for _, count in stretches)
        if total != TIMES:
            raise ValueError(f"the counts of {shorten(text)!r} sum to {total}: make it {TIMES}")
        return cls(stretches)

    def at(self, index: int) -> float:
        """The number at an index in [0, 1000); 0 is pure noise."""
        for value, count in self.stretches:
            index -= count
            if index < 0:
                return value
        raise IndexError(f"a course has {TIMES} numbers")


def _schedule(value: object) -> object:
    """The schedule as text; a plain number, as in old files, becomes a constant schedule."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    text = f"[{value:g}]*{TIMES}" if plain else value
    if isinstance(text, str):
        Course.parse(text)
    return text


ScheduleText = Annotated[str, BeforeValidator(_schedule)]
Scale = Annotated[float, Field(ge=0, le=1e6)]


class CutCounts(NamedTuple):
    """The number and kinds of cutouts at one time.

    overview, inner, power, grey: the fields of `nets.cutouts.Cuts`.
    """

    overview: int
    inner: int
    power: float
    grey: float


class Settings(BaseModel):
    """The settings of the guidance, with the names and defaults of the original.

    The scale of CLIP, `clip_guidance_scale`, is not among them: it is 1000 times the guidance of a brief.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tv_scale: Scale = Field(default=0.0, description="how smooth")
    range_scale: Scale = Field(default=150.0, description="how strictly colours stay in their range")
    sat_scale: Scale = Field(default=0.0, description="how pale")
    init_scale: Scale = Field(default=1000.0, description="how near to a given picture")
    cutn_batches: int = Field(default=4, ge=1, le=64, description="how often to look, each time anew")
    cut_overview: ScheduleText = "[12]*400+[4]*600"
    cut_innercut: ScheduleText = "[4]*400+[12]*600"
    cut_ic_pow: ScheduleText = "[1]*1000"
    cut_icgray_p: ScheduleText = "[0.2]*400+[0]*600"
    skip_augs: bool = Field(default=False, description="look without turning, shifting and colouring")
    clamp_grad: bool = True
    clamp_max: float = Field(default=0.05, gt=0, le=100, description="the largest gradient")
    eta: float = Field(default=0.8, ge=0, le=1, description="fresh noise of a DDIM step, 1 = as DDPM")
    fuzzy_prompt: bool = Field(default=False, description="ask for much that is like the words")
    rand_mag: float = Field(default=0.05, ge=0, le=10, description="how unlike")
    use_vertical_symmetry: bool = Field(default=False, description="mirror the left half onto the right")
    use_horizontal_symmetry: bool = Field(default=False, description="mirror the upper half onto the lower")
    transformation_percent: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        default=(0.09,), description="the shares of the steps after which to mirror"
    )

    @model_validator(mode="after")
    def _sees_something(self) -> Self:
        blind = next(
            (k for k in range(TIMES) if self.cut_counts(k).overview + self.cut_counts(k).inner < 1), None
        )
        if blind is not None:
            raise ValueError(f"no cuts at {blind} of {TIMES}: cut_overview + cut_innercut must be 1 or more")
        return self

    def cut_counts(self, index: int) -> CutCounts:
        """The cutouts at an index in [0, 1000); 0 is pure noise."""
        overview, inner, power, grey = (
            Course.parse(text).at(index)
            for text in (self.cut_overview, self.cut_innercut, self.cut_ic_pow, self.cut_icgray_p)
        )
        return CutCounts(int(overview), int(inner), power, min(grey, 1.0))


@dataclass(frozen=True)
class SettingsFile:
    """The content of a settings file.

    settings: fields of `Settings`.
    inputs: fields of the inputs of videos.
    notes: one sentence for each setting that is not supported.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_settings(path: Path) -> SettingsFile:
    """Read a settings file of the original or of `write_settings`, in JSON.

    Raises:
        BadBrief: there is no such file, it is not a JSON object, or a value is out of range.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadBrief(f"no settings at {str(path)!r}: check the name") from None
    except (OSError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise BadBrief(f"{str(path)!r} is no settings file: use the JSON that Disco Diffusion saved")
    settings = {name: values[name] for name in Settings.model_fields if name in values}
    checked_settings(settings, path)
    inputs = values.get("danqing")
    if isinstance(inputs, dict):
        return SettingsFile(settings, inputs)
    try:
        inputs = _inputs_of(values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadBrief(f"{str(path)!r} cannot be followed: {error}") from None
    names = {*settings, *_FOLLOWED}
    left = sorted(name for name, value in values.items() if name not in names and value not in _SPARE)
    notes = (f"not followed in {path.name}: {', '.join(left)}",) if left else ()
    return SettingsFile(settings, inputs, notes)


def checked_settings(values: Mapping[str, Any], path: Path) -> Settings:
    """Validate settings.

    Raises:
        BadBrief: a value is wrong; the message names the first one and the file.
    """
    try:
        return Settings.model_validate(dict(values))
    except ValueError as error:  # includes pydantic's ValidationError
        first = getattr(error, "errors", list)()[0]
        where = ".".join(str(part) for part in first["loc"])
        text = str(first["msg"]).removeprefix("Value error, ")
        raise BadBrief(f"{str(path)!r}: {where or 'cuts'}: {text}") from None


def write_settings(settings: Mapping[str, Any], inputs: Mapping[str, Any], script: Script) -> str:
    """The text of a settings file, with the names of the original where it has the same setting.

    settings: the fields of `Settings` that differ from those of the painter.
    inputs: fields of the inputs of videos.
    script: the prompts of the frames.
    """
    prompts = {str(frame): [f"{text}:{weight:g}" for text, weight in lines] for frame, lines in script.scenes}
    film = {theirs: inputs[ours] for theirs, ours in _FILM.items() if ours in inputs}
    scale = {"clip_guidance_scale": inputs["guidance"] * CLIP_SCALE} if "guidance" in inputs else {}
    values = {"text_prompts": prompts, **scale, **settings, **film, "danqing": dict(inputs)}
    return json.dumps(values, indent=4, ensure_ascii=False) + "\n"


_FILM = {  # name in the original -> field of the inputs
    "max_frames": "frames",
    "angle": "angle",
    "zoom": "zoom",
    "translation_x": "translation_x",
    "translation_y": "translation_y",
    "steps": "steps",
    "seed": "seed",
    "init_image": "start",
}
_FOLLOWED = {
    *_FILM,
    "text_prompts",
    "clip_guidance_scale",
    "frames_skip_steps",
    "key_frames",
}


def _inputs_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the inputs of videos, from the keys of the original."""
    inputs = {ours: values[theirs] for theirs, ours in _FILM.items() if values.get(theirs) not in (None, "")}
    for motion in ("angle", "zoom", "translation_x", "translation_y"):
        if motion in inputs:
            inputs[motion] = str(inputs[motion])
    frames = inputs.get("frames")
    if isinstance(frames, int) and frames >= _EVERLASTING:
        del inputs["frames"]
    if not isinstance(inputs.get("seed", 0), int):  # "random_seed"
        del inputs["seed"]
    if values.get("text_prompts"):
        inputs["prompt"] = Script.of(_prompts(values["text_prompts"])).text
    if "clip_guidance_scale" in values:
        inputs["guidance"] = _number(values, "clip_guidance_scale") / CLIP_SCALE
    share = re.fullmatch(r"\s*([0-9]{1,2})\s*%\s*", str(values.get("frames_skip_steps", "")))
    if share:
        inputs["strength"] = round(1 - int(share[1]) / 100, 6)
    return inputs


def _number(values: Mapping[str, Any], name: str) -> float:
    try:
        return float(values[name])
    except (TypeError, ValueError):
        raise ValueError(f"{name} {shorten(str(values[name]))!r} is no number") from None


def _prompts(value: Any) -> dict[int, list[str]]:
    """First frame -> prompts, from such a table or from one list of prompts for all frames."""
    table = value if isinstance(value, Mapping) else {0: value}
    for frame in table:
        if not re.fullmatch(r"\s*[0-9]{1,6}\s*", str(frame)):
            raise ValueError(f"text_prompts: {shorten(str(frame))!r} is no number of a frame")
    return {int(frame): [texts] if isinstance(texts, str) else list(texts) for frame, texts in table.items()}
