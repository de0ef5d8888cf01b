"""Command-line options made from the fields of a Brief, and a Brief turned back into a command line.

Names, types, defaults and help are declared once, on `Brief`; only what reads better in a shell is told here.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar, get_args

import typer

from danqing.conditioning.parameters import literal
from danqing.core.brief import Brief

FLAGS = {"negative_prompt": "--no"}  # Midjourney's word; every other field is --field
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
    "steps",
    "guidance",
    "sampler",
    "rescale",
    "stylize",
    "chaos",
    "weird",
    "tile",
)
_UNSET = {"seed": "random", "style": "none", "negative_prompt": "nothing"}  # else the model's card decides
_METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}

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
    return {name: _of_field(name) for name in FIELDS}


def command_line(brief: Brief) -> str:
    """The shell command that paints `brief`, settled or not."""
    words = ["danqing", "paint"]
    for name in FIELDS:
        value = getattr(brief, name)
        if value is True:
            words.append(flag(name))
        elif value != Brief.model_fields[name].default:
            # a value that starts with a dash must be glued to its option
            words += [f"{flag(name)}={value}"] if str(value).startswith("-") else [flag(name), str(value)]
    prompt = literal(brief.prompt)
    words += ["--", prompt] if prompt.startswith("-") else [prompt]
    return shlex.join(words)


def _of_field(name: str) -> Parameter:
    field = Brief.model_fields[name]
    help = field.description or ""
    kind = next(part for part in _parts(field.annotation) if part in (bool, *_METAVARS))
    unset = _UNSET.get(name) or str("the model's" if field.default is None else field.default)
    return option(name, flag(name), kind=kind, help=help[:1].upper() + help[1:], unset=unset)


def _parts(annotation: Any) -> Iterator[Any]:
    """`Annotated[int, ...] | None` -> itself, Annotated[int, ...], int, ..., None."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)
