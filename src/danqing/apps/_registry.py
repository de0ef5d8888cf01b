"""The apps, one module each; command line, Python, HTTP, forms and docs are made from this. Needs no torch.

An app is a module `apps/NAME.py` whose docstring's first line says what it does, with a class of inputs and a
function `NAME` under the decorator `@app(Inputs)`. Nothing else lists it.
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
"""Values as they were given, the session, and what texts that name pictures mean -> inputs."""


class App(Generic[InputsT, ResultT]):
    """Something that people do with a painter.

    inputs: the class of its inputs.
    run: (inputs, session, progress) -> its result: pictures, lines of text, or a type of its own.
    examples: commands for the help page.
    prepare: makes inputs of values, where the app needs more for that than `_parse.parse`.
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
        """What it does, in a line."""
        return app_summaries()[self.name]

    def parse(
        self, values: Mapping[str, Any], session: Session, image_lookup: ImageLookup = ImageRef
    ) -> InputsT:
        """The inputs that loose values mean, with all that can be checked without opening a model.

        Raises:
            BadBrief: a value is out of range, or the model cannot do what is asked.
            BadPicture: a picture cannot be read.
        """
        from danqing.apps._parse import parse  # which knows apps

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

        session: where models stay open; None is the one that all calls share.
        painter: paints instead of the model that `model` names.
        progress: called after each step; whatever it raises cancels the work.
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
        """The inputs that are paths, which only someone at this computer may give."""
        extras = {name: field.json_schema_extra for name, field in self.inputs.model_fields.items()}
        return frozenset(
            name for name, extra in extras.items() if isinstance(extra, dict) and "local" in extra
        )

    @property
    def image_fields(self) -> tuple[str, ...]:
        """The inputs that are pictures."""
        fields = self.inputs.model_fields.items()
        return tuple(name for name, field in fields if "ImageRef" in str(field.annotation))

    def schema(
        self,
        card: Card | None = None,
        *,
        local: bool = True,
        controls: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, Any]:
        """The JSON schema of its inputs, for forms; choices that depend on the model are those of `card`.

        Each property has title, description, group, and where they apply unit, step, advanced, enum.
        local: with the inputs that are paths.
        controls: what the fields of pictures that are followed offer; those that are not in it are left out.
            None leaves them all as they are.
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
    """Leave out what has nothing to follow with; put in what the others offer."""
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
    """`parse` for one class of inputs."""
    return lambda values, session, image_lookup: parse(inputs, values, session, image_lookup)


def app(
    inputs: type[InputsT],
    *,
    examples: tuple[str, ...] = (),
    prepare: Prepare[InputsT] | None = None,
    output: str = "pictures",
) -> Callable[[Callable[[InputsT, Session, ProgressCallback], ResultT]], App[InputsT, ResultT]]:
    """Decorator: the function below is an app with these inputs."""
    return lambda run: App(inputs, run, examples, prepare, output)


def names() -> list[str]:
    """The names of all apps."""
    return sorted(
        module.name for module in pkgutil.iter_modules(danqing.apps.__path__) if module.name[0] != "_"
    )


def find_app(name: str) -> App[Any, Any]:
    """The app called `name`.

    Raises:
        BadBrief: there is none; names the nearest.
    """
    if name not in names():
        raise BadBrief(unknown("app", name, names()))
    match = getattr(import_module(f"danqing.apps.{name}"), name)
    assert isinstance(match, App)
    return match


def group_of(inputs: type[AppInputs], field: str) -> str:
    """The heading under which a form shows a field: that of the class which declares it last."""
    owners = [base for base in inputs.__mro__ if field in get_annotations(base)]
    return str(vars(owners[-1]).get("GROUP", "app")) if owners else "app"


def _signature(inputs: type[AppInputs]) -> Signature:
    """What `help()` and editors show of the Python function."""
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
    """A type without the rules that are annotated to it."""
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
