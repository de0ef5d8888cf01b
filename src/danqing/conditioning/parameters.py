"""Midjourney's parameters at the end of a prompt: "a fox --ar 3:2 --no people, text".

Midjourney has not published how they work, so each has a definition of our own here. MAPPING_VERSION counts
the changes of these definitions and is written into the metadata of every picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from danqing.conditioning.prompt_schedule import decimal
from danqing.core.brief import sides_for_ratio
from danqing.core.card import Card
from danqing.core.errors import BadBrief, shorten, unknown
from danqing.core.half_width import half_width, sub_marks, unquote_marks

MAPPING_VERSION = 1
QUALITIES = (0.25, 0.5, 1.0, 2.0, 4.0)

# phones replace -- by a dash; with a space before and a letter after it, it is not punctuation. Chinese is
# written without spaces, so -- itself needs no space before it
_DASHES = re.compile(
    r"(?:(?<=\s)|^|(?<=[\u3400-\u9fff\uf900-\ufaff、。》」』】])(?=\\*--))"
    r"(?P<escapes>\\*)(?:--|[—–]{1,2})(?=[A-Za-z])"
)


@dataclass(frozen=True)
class Parameters:
    """The values of the parameters in a prompt, None for those that it does not have.

    notes: lines to show to the user.
    """

    ar: str | None = None
    seed: int | None = None
    no: str | None = None
    stylize: int | None = None
    chaos: int | None = None
    weird: int | None = None
    tile: bool | None = None
    quality: float | None = None
    repeat: int | None = None
    style: str | None = None
    fast: bool | None = None
    steps: int | None = None
    iw: float | None = None
    sref: str | None = None
    notes: tuple[str, ...] = ()


def split(text: str) -> tuple[str, Parameters]:
    r"""Split a prompt into its text and the parameters at its end; \-- is ordinary text.

    Full-width －－, digits and ： mean the same as half-width ones.

    Raises:
        BadBrief: a parameter is unknown, or its value is missing, wrong or followed by more words.
    """
    starts = [match for match in _DASHES.finditer(half_width(text)) if not match["escapes"]]
    ends = [match.start() for match in starts] + [len(text)]
    parts = [text[match.end() : end] for match, end in zip(starts, ends[1:], strict=True)]
    pairs: dict[str, Any] = {}
    notes = []
    for each in parts:
        name, value = _read(each)
        if name in _MIDJOURNEY_ONLY or (name, value) == ("style", "raw"):
            notes.append(f"--{' '.join(each.split())} is Midjourney's own: it does nothing here")
            continue
        if name in pairs:
            notes.append(f"--{name} is given more than once: the last one counts")
        pairs[name] = value
    words = sub_marks(_DASHES, _without_escape, text[: ends[0]])
    return words.strip(), Parameters(**pairs, notes=tuple(notes))


def _without_escape(dashes: re.Match[str], typed: str) -> str:
    return typed[1:] if dashes["escapes"] else typed


def render(words: str, parameters: Parameters) -> str:
    """The prompt of a text and its parameters, the inverse of `split`."""
    values = {field.name: getattr(parameters, field.name) for field in fields(parameters)}
    del values["notes"]
    flags = [f"--{name} {_text(value)}".strip() for name, value in values.items() if value is not None]
    return " ".join([literal(words), *flags]).strip()


def literal(words: str) -> str:
    """`words` with each -- escaped, so that `split` finds no parameter in them."""
    return sub_marks(_DASHES, lambda _, typed: f"\\{typed}", words)


def needs_card(parameters: Parameters) -> bool:
    """Whether the meaning of the parameters depends on the model's card."""
    return any(getattr(parameters, name) is not None for name in _OF_A_CARD)


def brief_fields(
    parameters: Parameters, card: Card | None, brief_values: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a brief: `brief_values`, and for the others the values of the parameters.

    A field in `brief_values` overrides a parameter, but `quality` and `repeat` multiply it.

    card: the card of the model; None where an input picture decides the size, so that parameters which need
        a card are refused.

    Raises:
        BadBrief: the model cannot paint the aspect ratio, or a parameter needs a card and there is none.
    """
    made = dict(brief_values)
    for name, means in _MEANINGS.items():
        value = getattr(parameters, name)
        if value is not None and card is None and name in _OF_A_CARD:
            raise BadBrief(f"--{name} is for paint and imagine: here the picture decides, so leave it out")
        if value is not None:
            made.update(means(value, card, made))
    return made


def _words(text: str) -> str:
    if not unquote_marks(text):
        raise ValueError("a value")
    return unquote_marks(text)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        raise ValueError("a whole number")
    return int(text)


def _decimal(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{0,6})?|\.[0-9]{1,6}", text):
        raise ValueError("a number such as 0.5")
    return float(text)


def image_strength(weight: float | None) -> float:
    """The denoising strength for an image prompt with --iw in [0, 3]: 1 at 0, 0.7 at 1, 0.1 at 3."""
    return round(1 - 0.3 * (1.0 if weight is None else weight), 6)


def _image_weight(text: str) -> float:
    if _decimal(text) > 3:
        raise ValueError("a number from 0 to 3")
    return _decimal(text)


def _quality(text: str) -> float:
    if _decimal(text) not in QUALITIES:
        raise ValueError(f"one of {', '.join(map(decimal, QUALITIES))}")
    return _decimal(text)


class _Parameter(NamedTuple):
    """How a parameter is read.

    read: text -> value; it raises ValueError with the text of what is needed.
    words: how many words the value has; None for all that follow. Then `read` gets them as typed; otherwise
        in half-width characters.
    """

    read: Callable[[str], Any]
    words: int | None = 1


_TABLE = {
    "ar": _Parameter(_words),
    "seed": _Parameter(_whole),
    "no": _Parameter(_words, words=None),
    "stylize": _Parameter(_whole),
    "chaos": _Parameter(_whole),
    "weird": _Parameter(_whole),
    "tile": _Parameter(lambda _: True, words=0),
    "quality": _Parameter(_quality),
    "repeat": _Parameter(_whole),
    "style": _Parameter(_words, words=None),
    "fast": _Parameter(lambda _: True, words=0),
    "steps": _Parameter(_whole),
    "iw": _Parameter(_image_weight),
    "sref": _Parameter(_words, words=None),
}
_MIDJOURNEY_ONLY = {  # parameter that has a meaning only in Midjourney -> how many words its value has
    **dict.fromkeys(("v", "version", "niji", "stop", "cw", "sw", "sv", "exp", "profile", "p"), 1),
    **dict.fromkeys(("hd", "relax", "turbo", "draft", "raw", "video", "stealth", "public"), 0),
}
_TABLE |= {name: _Parameter(lambda text: text, words) for name, words in _MIDJOURNEY_ONLY.items()}
_SHORT = {"s": "stylize", "c": "chaos", "w": "weird", "q": "quality", "r": "repeat"}


def _read(text: str) -> tuple[str, Any]:
    """The name and the value of one parameter, from a text such as "ar 3:2 "."""
    word, *words = half_width(text).split()
    letters = re.match("[A-Za-z]+", word)
    short = letters[0].lower() if letters else word
    name = _SHORT.get(short, short)
    if name not in _TABLE:
        ours = (_TABLE.keys() | _SHORT.keys()) - _MIDJOURNEY_ONLY.keys()
        raise BadBrief(unknown("parameter", f"--{word}", (f"--{each}" for each in ours)))
    if short != word.lower():
        raise BadBrief(f"--{shorten(word)} is run together: put a space after --{short}")
    read, most = _TABLE[name]
    words = text.split()[1:] if most is None else words
    value, after = " ".join(words[:most]), "" if most is None else " ".join(words[most:])
    if after:
        raise BadBrief(
            f"{shorten(after)!r} stands behind --{word}: put the words first and the parameters last"
        )
    try:
        return name, read(value)
    except ValueError as needed:
        raise BadBrief(f"--{word} {shorten(value)!r} is not understood: it needs {needed}") from None


def _text(value: object) -> str:
    if value is True:
        return ""
    return decimal(value) if isinstance(value, float) else str(value)


_Meaning = Callable[[Any, Any, Mapping[str, Any]], dict[str, Any]]


def _as(field: str) -> _Meaning:
    return lambda value, _, brief_values: {field: brief_values.get(field, value)}


def _sides(ratio: str, card: Card, brief_values: Mapping[str, Any]) -> dict[str, Any]:
    if brief_values.get("width") or brief_values.get("height"):
        raise BadBrief(
            f"--ar {shorten(ratio)!r} and --width or --height say the same thing: give one of them"
        )
    width, height = sides_for_ratio(ratio, card, native=bool(brief_values.get("native")))
    return {"width": width, "height": height}


def _more_steps(quality: float, card: Card, brief_values: Mapping[str, Any]) -> dict[str, Any]:
    usual = card.fast.steps if brief_values.get("fast") and card.fast else card.steps
    return {"steps": max(1, round(quality * _whole_or(brief_values.get("steps"), usual)))}


def _more_pictures(times: int, _: Card, brief_values: Mapping[str, Any]) -> dict[str, Any]:
    return {"count": times * _whole_or(brief_values.get("count"), 1)}


def _whole_or(value: object, default: int) -> int:
    """An unvalidated field as a whole number; `default` where it is none, which validation refuses later."""
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()) else default


_OF_A_CARD = ("ar", "quality")

# the order counts: quality multiplies the steps that are set before it. iw and sref, which belong to example
# pictures, are no fields of a brief
_MEANINGS: dict[str, _Meaning] = {
    "ar": _sides,
    "seed": _as("seed"),
    "no": _as("negative_prompt"),
    "stylize": _as("stylize"),
    "chaos": _as("chaos"),
    "weird": _as("weird"),
    "tile": _as("tile"),
    "style": _as("style"),
    "fast": _as("fast"),
    "steps": _as("steps"),
    "quality": _more_steps,
    "repeat": _more_pictures,
}
