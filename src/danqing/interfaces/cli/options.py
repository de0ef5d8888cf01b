"""Makes command-line options from the fields of requests, and command lines from requests.

Names, types, defaults and help are declared once, on the fields; this module has only what differs in a
shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from danqing.apps import AppInputs
from danqing.conditioning.parameters import literal
from danqing.core.brief import Brief
from danqing.core.image_ref import ImageRef
from danqing.core.request import FrozenModel
from danqing.interfaces.cli.completion import completion
from danqing.interfaces.cli.shell import join_words

FLAGS = {
    "negative_prompt": "--no",
    "adapters": "--adapter",
    "kind": "--class",
    "settings_of": "--from",
}  # all other fields are --field
SHORT = {"count": "-n"}
SHARED = (  # fields of a brief that are options, in the order of the help page
    "count",
    "seed",
    "style",
    "negative_prompt",
    "weighting",
    "background",
    "width",
    "height",
    "native",
    "model",
    "vae",
    "refiner",
    "refiner_at",
    "fast",
    "steps",
    "guidance",
    "sampler",
    "rescale",
    "guidance_start",
    "guidance_end",
    "cache_interval",
    "tile",
    "stylize",
    "chaos",
    "weird",
    "variation",
    "variation_seed",
    "adapters",
    "control",
    "control_model",
    "ip_image",
    "ip_adapter",
)
REPEATED = frozenset(
    {"control", "control_model", "ip_image", "ip_adapter"}
)  # options that may be given several times
_UNSET = {  # field -> the default's description; for other fields the model's card decides
    "seed": "random",
    "variation_seed": "random",
    "style": "none",
    "negative_prompt": "nothing",
    "adapters": "none",
    "vae": "the model's",
    "refiner": "none",
    "control": "none",
    "control_model": "by what it is for",
    "ip_image": "none",
    "ip_adapter": "the one for the model",
    "etas": "four even steps",
    "lr": "what suits the model",
    "ar": "the model's",
    "models": "all that are shipped",
}
WORDS = frozenset({"prompt", "words"})  # positional fields that may be typed without quotes, word by word
CONTEXT = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)
_METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}

F = TypeVar("F", bound=Callable[..., None])


def flag(field: str) -> str:
    """The option for a field."""
    return FLAGS.get(field, f"--{field.replace('_', '-')}")


def set_signature(*parameters: Parameter) -> Callable[[F], F]:
    """Decorator: give a function of `**options` the parameters that typer should read."""

    def decorate(function: F) -> F:
        function.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return function

    return decorate


def option(
    name: str,
    *flags: str,
    kind: type = str,
    help: str,
    unset: str,
    complete: Callable[[str], list[str]] | None = None,
) -> Parameter:
    """One option, as a parameter of a command's signature.

    Values come as text (except for switches), so that the request validates them and its message names the
    value.

    unset: what happens without the option, for the help.
    complete: maps the beginning of a value to possible values, for the shell.
    """
    if kind is bool:
        switch: Any = Annotated[bool, typer.Option(*flags, help=help, show_default=False)]
        return Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=switch)
    info = typer.Option(
        *flags, help=help, metavar=_METAVARS[kind], show_default=unset, autocompletion=complete
    )
    value: Any = Annotated[list[str] | None if name in REPEATED else str | None, info]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=value)


def app_parameters(inputs: type[AppInputs]) -> list[Parameter]:
    """The parameters of an app's command: positional fields, its own options, and shared options."""
    arguments = argument_names(inputs)
    own = [name for name in inputs.model_fields if name not in {*arguments, *inputs.positional, *SHARED}]
    after = [name for name in inputs.positional if name not in arguments and not _is_last_word(inputs, name)]
    shared = [name for name in SHARED if name in inputs.model_fields]
    switches = [
        option(name, flag(name), kind=bool, help=f"The same as {_fields_as_flags(fields)}", unset="")
        for name, fields in inputs.switches.items()
    ]
    options = [_of_field(inputs, name) for name in [*after, *own, *shared]]
    return [*(_argument(inputs, name) for name in arguments), *options, *switches]


def argument_names(inputs: type[AppInputs]) -> list[str]:
    """The fields that a shell can pass by position: none after a list."""
    names = list(inputs.positional)
    lists = [k for k, name in enumerate(names) if is_list(inputs, name)]
    return names if not lists else names[: lists[0] + 1]


def words_behind_list(inputs: type[AppInputs]) -> list[str]:
    """The required positional fields after a list: the last words of the command."""
    return [name for name in inputs.positional if _is_last_word(inputs, name)]


def command_line(brief: Brief) -> str:
    """The shell command that paints `brief`, resolved or not."""
    words = ["danqing", "paint"]
    for name in SHARED:
        words += _option_words(name, getattr(brief, name), _default_of(Brief, name))
    return join_words([*words, *_behind([literal(brief.prompt)])])


def app_line(app: str, inputs: AppInputs) -> str:
    """The shell command that calls an app with `inputs`."""
    kind = type(inputs)
    arguments = argument_names(kind)
    words = ["danqing", app]
    for name in kind.model_fields:
        if name in inputs.model_fields_set and name not in arguments:
            words += _option_words(name, _shell_value(name, inputs), _default_of(kind, name))
    positional = [part for name in arguments for part in _parts_of(_shell_value(name, inputs))]
    return join_words([*words, *_behind(positional)])


def _shell_value(name: str, inputs: AppInputs) -> Any:
    """A field's value as the command reads it; in a prompt, words that look like parameters are escaped."""
    value = getattr(inputs, name)
    return literal(value) if name == "prompt" else value


def _default_of(inputs: type[FrozenModel], name: str) -> object:
    return inputs.model_fields[name].get_default(call_default_factory=True)


def _behind(words: list[str]) -> list[str]:
    """The positional words, after a -- if one of them looks like an option."""
    return ["--", *words] if any(word.startswith("-") for word in words) else words


def _option_words(name: str, value: Any, default: object) -> list[str]:
    """The words of one option; empty if the value is the default."""
    if value in (None, default):
        return []
    if value is True:
        return [flag(name)]
    words: list[str] = []
    for text in map(str, value) if name in REPEATED else [_text(value)]:
        # a value that starts with a dash must be in the same word as its option
        words += [f"{flag(name)}={text}"] if text.startswith("-") else [flag(name), text]
    return words


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{weight:g}" for name, weight in value.items())
    if isinstance(value, ImageRef):
        return value.name
    return ",".join(f"{part:g}" for part in value) if isinstance(value, list | tuple) else str(value)


def _parts_of(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [_text(part) for part in value]
    return [] if value in (None, "") else [_text(value)]


def _fields_as_flags(fields: Any) -> str:
    return " ".join(f"{flag(name)} {value}" for name, value in fields.items())


def _of_field(inputs: type[FrozenModel], name: str) -> Parameter:
    field = inputs.model_fields[name]
    if name in _UNSET and field.get_default(call_default_factory=True) in (None, "", (), {}):
        unset = _UNSET[name]
    else:
        unset = "the model's" if name in SHARED and field.default is None else _default(field.default)
    flags = [flag(name), *([SHORT[name]] if name in SHORT else [])]
    kind, complete = _kind(field.annotation), completion(field)
    return option(name, *flags, kind=kind, help=_help(field), unset=unset, complete=complete)


def _argument(inputs: type[AppInputs], name: str) -> Parameter:
    """A positional field. The last one takes all remaining words, which `read_arguments` assigns."""
    field = inputs.model_fields[name]
    metavar = " ".join(other.upper() for other in (name, *words_behind_list(inputs)))
    info = typer.Argument(metavar=metavar, help=_help(field), show_default=False)
    several = name == argument_names(inputs)[-1]
    kind = list[str] | None if several else str | None
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info])


def is_list(inputs: type[FrozenModel], name: str) -> bool:
    """Whether a field has several values, such as pictures."""
    return get_origin(inputs.model_fields[name].annotation) is tuple


def is_image(inputs: type[FrozenModel], name: str) -> bool:
    """Whether a field is a picture."""
    return ImageRef in _parts(inputs.model_fields[name].annotation)


def _is_last_word(inputs: type[AppInputs], name: str) -> bool:
    """Whether a required field comes after a list: then it is the last word of the command."""
    field = inputs.model_fields[name]
    return name not in argument_names(inputs) and field.is_required() and name in inputs.positional


def _help(field: FieldInfo) -> str:
    text = field.description or ""
    return text[:1].upper() + text[1:]


def _default(value: object) -> str:
    text = ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
    return "none" if text in ("", "None") else text


def _kind(annotation: Any) -> type:
    """The plain type of an annotation; str if it is not a number or a switch."""
    return next((part for part in _parts(annotation) if part in (bool, *_METAVARS)), str)


def _parts(annotation: Any) -> Iterator[Any]:
    """`Annotated[int, ...] | None` -> itself, Annotated[int, ...], int, ..., None."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)
