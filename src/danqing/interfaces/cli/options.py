"""Command-line options made from the fields of a Brief, and a Brief turned back into a command line.

Names, types, defaults and help are declared once, on `Brief`; only what reads better in a shell is told here.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar, get_args

import typer
from pydantic.fields import FieldInfo

from danqing.apps.forms import Form, Learn
from danqing.conditioning.parameters import literal
from danqing.core.brief import Brief
from danqing.core.request import Request

FLAGS = {
    "negative_prompt": "--no",
    "adapters": "--adapter",
    "kind": "--class",
}  # every other field is --field
FIELDS = (  # in the order of the help page
    "count",
    "seed",
    "style",
    "negative_prompt",
    "background",
    "width",
    "height",
    "native",
    "model",
    "fast",
    "steps",
    "guidance",
    "sampler",
    "rescale",
    "tile",
    "stylize",
    "chaos",
    "weird",
    "variation",
    "variation_seed",
    "adapters",
)
_UNSET = {  # what happens without it; else the model's card decides
    "seed": "random",
    "variation_seed": "random",
    "style": "none",
    "negative_prompt": "nothing",
    "adapters": "none",
    "etas": "four even steps",
    "lr": "what suits the model",
}
_METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}

_QUIET = {"prompt", "mask", "strength"}  # fields of a brief that are options of the apps that name them

F = TypeVar("F", bound=Callable[..., None])


def flag(field: str) -> str:
    """The option of a Brief's field."""
    return FLAGS.get(field, f"--{field.replace('_', '-')}")


def taking(*parameters: Parameter) -> Callable[[F], F]:
    """Give a function of `**options` the parameters that typer shall read."""

    def decorate(function: F) -> F:
        function.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return function

    return decorate


def option(name: str, *flags: str, kind: type = str, help: str, unset: str) -> Parameter:
    """One option, as a parameter of a command's signature. `unset` tells what happens without it.

    All but switches come as text, so that it is `Brief` who refuses a value, naming it.
    """
    if kind is bool:
        switch: Any = Annotated[bool, typer.Option(*flags, help=help, show_default=False)]
        return Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=switch)
    info = typer.Option(*flags, help=help, metavar=_METAVARS[kind], show_default=unset)
    value: Any = Annotated[str | None, info]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=value)


def brief_options() -> dict[str, Parameter]:
    """An option for every field of a Brief but the prompt."""
    return {name: _of_field(Brief, name) for name in FIELDS}


def form_parameters(form: type[Form]) -> list[Parameter]:
    """What the command of an app takes: its positional fields, its own options, and those of every brief."""
    shared = [name for name in FIELDS if form.paints or name == "model"]
    shared = [name for name in shared if name != "count" or not form.single]
    taken = {"image", *form.asks, *FIELDS, *(_QUIET - set(form.__annotations__))}
    own = [name for name, field in form.model_fields.items() if name not in taken and field.description]
    return [
        *(_argument(form, name) for name in form.asks),
        *(_of_field(form, name) for name in [*own, *shared]),
    ]


def command_line(brief: Brief) -> str:
    """The shell command that paints `brief`, settled or not."""
    words = ["danqing", "paint"]
    for name in FIELDS:
        words += _told(name, getattr(brief, name), _default_of(Brief, name))
    return shlex.join([*words, *_behind([literal(brief.prompt)])])


def app_line(app: str, form: Form) -> str:
    """The shell command that asks an app for what `form` says."""
    kind = type(form)
    words = ["danqing", app]
    for name in kind.model_fields:
        if name in form.model_fields_set and name not in kind.asks and name != "image":
            words += _told(name, _spelt(name, form), _default_of(kind, name))
    said = [part for name in kind.asks for part in _parts_of(_spelt(name, form))]
    return shlex.join([*words, *_behind(said)])


def _spelt(name: str, form: Form) -> Any:
    """A field as the command reads it: in a prompt, words that look like parameters are only words."""
    value = getattr(form, name)
    return literal(value) if name == "prompt" else value


def _default_of(form: type[Request], name: str) -> object:
    return form.model_fields[name].get_default(call_default_factory=True)


def _behind(words: list[str]) -> list[str]:
    """Positional words, behind a -- where one of them would be taken for an option."""
    return ["--", *words] if any(word.startswith("-") for word in words) else words


def _told(name: str, value: Any, default: object) -> list[str]:
    """One option of a command line; nothing for what would be so without it."""
    if value in (None, default):
        return []
    if value is True:
        return [flag(name)]
    text = _text(value)
    # a value that starts with a dash must be glued to its option
    return [f"{flag(name)}={text}"] if text.startswith("-") else [flag(name), text]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{weight:g}" for name, weight in value.items())
    return ",".join(f"{part:g}" for part in value) if isinstance(value, list | tuple) else str(value)


def _parts_of(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(part) for part in value]
    return [] if value in (None, "") else [str(value)]


def own_parameters(form: type[Learn]) -> list[Parameter]:
    """What a command takes that is not about one picture: positional fields and options, all its own."""
    rest = [name for name in form.model_fields if name not in form.asks]
    return [*(_argument(form, name) for name in form.asks), *(_of_field(form, name) for name in rest)]


def _of_field(form: type[Request], name: str) -> Parameter:
    field = form.model_fields[name]
    if name in _UNSET and field.get_default(call_default_factory=True) in (None, "", (), {}):
        unset = _UNSET[name]
    else:
        unset = "the model's" if name in FIELDS and field.default is None else _default(field.default)
    return option(name, flag(name), kind=_kind(field.annotation), help=_help(field), unset=unset)


def _argument(form: type[Request], name: str) -> Parameter:
    """A positional field: words may come unquoted, and a list of pictures one by one."""
    field = form.model_fields[name]
    info = typer.Argument(metavar=name.upper(), help=_help(field), show_default=False)
    several = name in ("prompt", "images")
    if field.is_required():
        kind: Any = list[str] if several else str
        return Parameter(name, Parameter.KEYWORD_ONLY, annotation=Annotated[kind, info])
    kind = list[str] | None if several else str | None
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info])


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    return text[:1].upper() + text[1:]


def _default(value: object) -> str:
    text = ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
    return "none" if text in ("", "None") else text


def _kind(annotation: Any) -> type:
    """The plain type in an annotation; anything that is told in words is text."""
    return next((part for part in _parts(annotation) if part in (bool, *_METAVARS)), str)


def _parts(annotation: Any) -> Iterator[Any]:
    """`Annotated[int, ...] | None` -> itself, Annotated[int, ...], int, ..., None."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)
