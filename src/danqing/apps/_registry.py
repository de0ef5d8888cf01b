"""The registry of apps; command line, Python, HTTP, forms and docs are derived from it. Needs no torch.

An app is a module `apps/NAME.py` with a class of inputs and a function `NAME` with the decorator
`@app(Inputs)`. The first line of the module's docstring is its help line. No other file lists the apps.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from importlib import import_module
from inspect import Parameter, Signature, get_annotations
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic.fields import FieldInfo

import danqing.apps
from danqing.apps._inputs import AppInputs, with_switches
from danqing.apps._names import app_summaries
from danqing.core.card import Card
from danqing.core.errors import BadBrief, unknown
from danqing.core.image_ref import ImageLookup, ImageRef
from danqing.core.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from danqing.apps._session import Session
    from danqing.core.painter import Painter

InputsT = TypeVar("InputsT", bound=AppInputs)
ResultT = TypeVar("ResultT")
Prepare = Callable[[Mapping[str, Any], "Session", ImageLookup], InputsT]
"""(unvalidated values, session, look-up of pictures by name) -> inputs."""


class App(Generic[InputsT, ResultT]):
    """An app.

    inputs: the class of its inputs.
    run: (inputs, session, progress) -> its result: pictures, lines of text, or a type of its own.
    examples: commands for the help page.
    prepare: parses values into inputs; None uses `_parse.parse`.
    output: the kind of result: pictures, lines, rows, or one of its own.
    """

    def __init__(
        self,
        inputs: type[InputsT],
        run: Callable[[InputsT, Session, ProgressCallback], ResultT],
        examples: tuple[str, ...],
        prepare: Prepare[InputsT] | None,
        output: str,
    ) -> None:
        self.inputs, self.run, self.examples, self.output = inputs, run, examples, output
        self._prepare = prepare
        update_wrapper(self, run)
        self.name = run.__name__
        self.__signature__ = _signature(inputs)

    @property
    def help(self) -> str:
        """The help line: what the app does."""
        return app_summaries()[self.name]

    def parse(
        self, values: Mapping[str, Any], session: Session, image_lookup: ImageLookup = ImageRef
    ) -> InputsT:
        """Parse unvalidated values into inputs, with all checks that need no open model.

        Raises:
            BadBrief: a value is out of range, or the model does not support the request.
            BadPicture: a picture cannot be read.
        """
        from danqing.apps._parse import parse  # here, because `_parse` imports apps

        prepare = self._prepare or parse_with(self.inputs, parse)
        return prepare(with_switches(self.inputs, values), session, image_lookup)

    def __call__(
        self,
        *args: Any,
        session: Session | None = None,
        painter: Painter | None = None,
        progress: ProgressCallback = no_progress,
        **fields: Any,
    ) -> Any:
        """Parse and run; pictures come as a list. Positional arguments are the fields `inputs.positional`.

        session: the session in which models stay open; None is the default one of all calls.
        painter: a painter that replaces the model in `model`.
        progress: called after each step; an exception in it cancels the work.
        """
        from danqing.apps._session import Session, default_session

        if painter is not None:
            session = Session.of(painter)
        session = session or default_session()
        if len(args) > len(self.inputs.positional):
            raise TypeError(f"{self.name}() takes {', '.join(self.inputs.positional)} by position")
        values = {**dict(zip(self.inputs.positional, args, strict=False)), **fields}
        return session.run(self, self.parse(values, session), progress)

    @property
    def local_fields(self) -> frozenset[str]:
        """The fields that are paths, which only a local user may set."""
        extras = {name: field.json_schema_extra for name, field in self.inputs.model_fields.items()}
        return frozenset(
            name for name, extra in extras.items() if isinstance(extra, dict) and "local" in extra
        )

    @property
    def image_fields(self) -> tuple[str, ...]:
        """The fields that are pictures."""
        fields = self.inputs.model_fields.items()
        return tuple(name for name, field in fields if "ImageRef" in str(field.annotation))

    def schema(
        self,
        card: Card | None = None,
        *,
        local: bool = True,
        controls: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, Any]:
        """The JSON schema of its inputs, for forms.

        Each property has title, description, group, and where they apply unit, step, advanced, enum.

        card: the model whose choices the schema has, such as its styles.
        local: whether to include the fields that are paths.
        controls: the choices of the fields of control maps and image prompts; fields without an entry are
            left out. None leaves all fields unchanged.
        """
        schema = self.inputs.model_json_schema(mode="validation")
        for name in () if local else self.local_fields:
            del schema["properties"][name]
        if controls is not None:
            _offer(schema["properties"], controls)
        for name, entry in schema["properties"].items():
            first, *rest = name.split("_")
            entry["title"] = " ".join((_ABBREVIATIONS.get(first, first.capitalize()), *rest))
            entry["group"] = group_of(self.inputs, name)
            entry.setdefault("advanced", False)
            source = entry.pop("choices_from", None)
            choices = _CHOICES[source](card) if card is not None and source in _CHOICES else []
            if choices:
                entry["examples" if source == "samplers" else "enum"] = choices
        return schema


def _offer(properties: dict[str, Any], controls: Mapping[str, Sequence[str]]) -> None:
    """Remove the control fields without choices, and set the choices of the others."""
    for name in ("control", "control_model", "ip_image", "ip_adapter"):
        if name not in controls:
            properties.pop(name, None)
        elif name in properties and controls[name]:
            entry = properties[name]
            where, key = (entry, "kinds") if name in ("control", "ip_image") else (entry["items"], "enum")
            where[key] = list(controls[name])


_ABBREVIATIONS = {"ip": "IP", "vae": "VAE"}
_CHOICES: dict[str, Callable[[Card], list[Any]]] = {
    "styles": lambda card: [None, *card.styles] if card.styles else [],
}


def parse_with(inputs: type[InputsT], parse: Callable[..., InputsT]) -> Prepare[InputsT]:
    """A `Prepare` function: `parse` for one class of inputs."""
    return lambda values, session, image_lookup: parse(inputs, values, session, image_lookup)


def app(
    inputs: type[InputsT],
    *,
    examples: tuple[str, ...] = (),
    prepare: Prepare[InputsT] | None = None,
    output: str = "pictures",
) -> Callable[[Callable[[InputsT, Session, ProgressCallback], ResultT]], App[InputsT, ResultT]]:
    """Decorator: make a function an app with these inputs."""
    return lambda run: App(inputs, run, examples, prepare, output)


def names() -> list[str]:
    """The names of all apps."""
    return sorted(
        module.name for module in pkgutil.iter_modules(danqing.apps.__path__) if module.name[0] != "_"
    )


def find_app(name: str) -> App[Any, Any]:
    """The app called `name`.

    Raises:
        BadBrief: there is none; the message names the nearest.
    """
    if name not in names():
        raise BadBrief(unknown("app", name, names()))
    match = getattr(import_module(f"danqing.apps.{name}"), name)
    assert isinstance(match, App)
    return match


def group_of(inputs: type[AppInputs], field: str) -> str:
    """The heading of a field in a form: the `GROUP` of the class that declares the field last."""
    owners = [base for base in inputs.__mro__ if field in get_annotations(base)]
    return str(vars(owners[-1]).get("GROUP", "app")) if owners else "app"


def _signature(inputs: type[AppInputs]) -> Signature:
    """The signature of the Python function for `help()` and editors."""
    fields = {**{name: inputs.model_fields[name] for name in inputs.positional}, **inputs.model_fields}
    parameters = [_parameter(name, field, name in inputs.positional) for name, field in fields.items()]
    kinds = sorted(parameters, key=lambda parameter: parameter.kind)
    positional = [parameter for parameter in kinds if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD]
    required = [parameter for parameter in positional if parameter.default is Parameter.empty]
    optional = [parameter for parameter in positional if parameter.default is not Parameter.empty]
    further = ("session", None), ("painter", None), ("progress", no_progress)
    extra = [Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in further]
    keywords = [parameter for parameter in kinds if parameter.kind is Parameter.KEYWORD_ONLY]
    return Signature([*required, *optional, *keywords, *extra])


def _parameter(name: str, field: FieldInfo, positional: bool) -> Parameter:
    kind = Parameter.POSITIONAL_OR_KEYWORD if positional else Parameter.KEYWORD_ONLY
    default = Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)
    return Parameter(name, kind, default=default, annotation=_plain(field.annotation))


def _plain(annotation: Any) -> Any:
    """A type without its `Annotated` metadata."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _plain(parts[0])
    if origin in (Union, UnionType):
        return Union[tuple(map(_plain, parts))]  # noqa: UP007  made at run time
    return annotation


def apps_table() -> str:
    """All apps as a table in Markdown: command, what it does, its own options."""
    lines = ["| Command | What it does | Its own options |", "|---|---|---|"]
    for name in names():
        inputs = find_app(name).inputs
        own = [field for field in inputs.model_fields if group_of(inputs, field) == "app"]
        options = ", ".join(f"`{field}`" for field in own if field not in inputs.positional)
        positional = " ".join(field.upper() for field in inputs.positional)
        lines.append(f"| `danqing {name} {positional}` | {app_summaries()[name]} | {options} |")
    return "\n".join(lines)
