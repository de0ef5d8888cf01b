"""Reads the metadata of A1111, ComfyUI, InvokeAI, Fooocus and NovelAI, with sd-parsers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from danqing.core.brief import sides_for_ratio
from danqing.core.card import Card
from danqing.core.metadata import PARAMETERS
from danqing.diffusion.sampler_names import sampler_name, sampler_titles

_A1111_TEXT = re.compile(r"(^|\n)\s*Steps: \d+, [\w ]+: ")
_NUMBERS = {  # field of a brief -> its names in other programs, and its type
    "seed": (("seed", "noise_seed"), int),
    "steps": (("steps", "num_steps"), int),
    "guidance": (("cfg_scale", "cfg", "guidance_scale"), float),
}
_COMFY_SAMPLERS = {"uni_pc": "unipc", "dpmpp_2m_sde_gpu": "dpmpp_2m_sde", "euler_a": "euler_ancestral"}
_ASIDE = {"size", "rng", "version", "width", "height"}  # entries without an effect on the picture here


@dataclass(frozen=True)
class OtherSettings:
    """The settings with which another program painted a picture.

    program: the name of the program.
    fields: fields of a `Brief`: prompt, negative_prompt, seed, steps, guidance, sampler.
    size: (width, height) in pixels; None if unknown.
    model: the name of the model in that program; "" if unknown.
    unread: other entries, as "name: value", which have no field in a brief.
    """

    program: str
    fields: Mapping[str, Any]
    size: tuple[int, int] | None
    model: str
    unread: tuple[str, ...]

    def for_card(self, card: Card) -> tuple[dict[str, Any], list[str]]:
        """The fields of a brief for a model, and a line for each difference from the other program."""
        fields, notes = dict(self.fields), []
        if self.model and Path(self.model).stem.casefold() != card.name.casefold():
            notes.append(
                f"{self.program} painted it with model {self.model!r}: {card.name!r} paints something else"
            )
        if self.size is not None:
            fields["width"], fields["height"] = self._sides(card)
            if self.size != (fields["width"], fields["height"]):
                before, after = "x".join(map(str, self.size)), f"{fields['width']}x{fields['height']}"
                notes.append(f"{before} becomes {after}, a size that model {card.name!r} can paint")
        if self.unread:
            notes.append(f"not kept: {', '.join(self.unread)}")
        return fields, notes

    def _sides(self, card: Card) -> tuple[int, int]:
        """The same size if the model can paint it, else one of the same aspect ratio."""
        assert self.size is not None
        step = card.size_multiple * card.scale
        width, height = self.size
        area = width * height / (card.width * card.height * card.scale**2)
        if width % step == 0 and height % step == 0 and area <= 2:
            return self.size
        longer = max(self.size) / 100
        return sides_for_ratio(f"{max(1, round(width / longer))}:{max(1, round(height / longer))}", card)


def is_a1111_text(text: str) -> bool:
    """Whether a text is A1111's `parameters`: a prompt, then a line "Steps: 20, Sampler: Euler a, ..."."""
    return _A1111_TEXT.search(text) is not None


def read_a1111_text(text: str) -> OtherSettings | None:
    """Parse A1111's `parameters`; None where nothing can be read."""
    chunks, file = PngInfo(), io.BytesIO()
    chunks.add_text(PARAMETERS, text.strip())
    Image.new("RGB", (1, 1)).save(file, "PNG", pnginfo=chunks)
    return _parse(io.BytesIO(file.getvalue()))


def read_other_settings(path: Path) -> OtherSettings | None:
    """The settings of another program in a picture file; None where there are none."""
    return _parse(path)


def _parse(file: Path | io.BytesIO) -> OtherSettings | None:
    from sd_parsers import ParserManager

    try:
        info = ParserManager().parse(file)
    except Exception:
        return None
    if info is None or not info.samplers:
        return None
    first = info.samplers[0]
    parameters = {str(name): value for name, value in first.parameters.items()}
    fields, used = _numbers(parameters)
    sampler, unread = _sampler(first.name, str(parameters.get("scheduler") or ""))
    words = {"prompt": _text(first.prompts), "negative_prompt": _text(first.negative_prompts)}
    size, metadata = _size(info.metadata, parameters), {**parameters, **info.metadata}
    rest = [
        f"{name}: {value}"
        for name, value in metadata.items()
        if name.casefold() not in _ASIDE and name not in {*used, "scheduler"} and _is_plain(value)
    ]
    return OtherSettings(
        program=str(info.generator.value),
        fields={**words, **fields, **({"sampler": sampler} if sampler else {})},
        size=size,
        model=str(first.model.name) if first.model is not None and first.model.name else "",
        unread=(*unread, *rest, *(("further passes",) if len(info.samplers) > 1 else ())),
    )


def _numbers(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The numeric fields of a brief, and their names in the program."""
    fields: dict[str, Any] = {}
    used: set[str] = set()
    for field, (names, kind) in _NUMBERS.items():
        for name in names:
            used.add(name)
            if field not in fields and (value := _number(parameters.get(name), kind)) is not None:
                fields[field] = value
    return fields, used


def _number(value: Any, kind: type[int] | type[float]) -> int | float | None:
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _sampler(name: Any, scheduler: str) -> tuple[str | None, tuple[str, ...]]:
    """Our sampler for a sampler and a scheduler of another program, and the entries that it ignores."""
    if not name:
        return None, ()
    ours = sampler_name(str(name))
    ours = _COMFY_SAMPLERS.get(ours, ours)
    plain = scheduler.casefold() in ("", "normal", "automatic", "simple", "discrete")
    if not plain and f"{ours}_{scheduler.casefold()}" in sampler_titles():
        return f"{ours}_{scheduler.casefold()}", ()
    if ours not in sampler_titles():
        return None, (f"sampler {name}",)
    return ours, () if plain else (f"schedule {scheduler}",)


def _size(metadata: Mapping[Any, Any], parameters: Mapping[str, Any]) -> tuple[int, int] | None:
    values = {str(name).casefold(): value for name, value in {**parameters, **metadata}.items()}
    match = re.fullmatch(r"\s*(\d{1,5})\s*[x×]\s*(\d{1,5})\s*", str(values.get("size", "")))
    sides = match.groups() if match else (values.get("width"), values.get("height"))
    numbers = [_number(side, int) for side in sides]
    width, height = numbers
    return (int(width), int(height)) if width and height and min(width, height) > 0 else None


def _text(prompts: Iterable[Any]) -> str:
    return ", ".join(str(prompt.value).strip() for prompt in prompts if str(prompt.value).strip())


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool) and len(str(value)) < 60 and str(value).isprintable()
