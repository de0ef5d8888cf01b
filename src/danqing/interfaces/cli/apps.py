"""The commands of the apps: each is made from its app's inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from danqing.apps import App, Session, find_app
from danqing.interfaces.cli.options import CONTEXT, app_parameters, set_signature
from danqing.interfaces.cli.outputs import OUTPUTS
from danqing.interfaces.cli.report import SCRIPT_OPTIONS, Report


def app_command(name: str) -> Callable[..., None]:
    """The command of the app called `name`."""
    app = find_app(name)
    output = OUTPUTS[app.output]

    @set_signature(CONTEXT, *app_parameters(app.inputs), *output.options, *SCRIPT_OPTIONS)
    def command(context: typer.Context, as_json: bool, quiet: bool, **options: Any) -> None:
        session = context.obj if isinstance(context.obj, Session) else Session()
        report = Report(as_json=as_json, quiet=quiet)
        extra = {parameter.name: options.pop(parameter.name) for parameter in output.options}
        inputs = app.parse(values_of(app, options), session)
        report.start(inputs.notes)
        output.run(app, inputs, session, extra, report)

    examples = "\n\n".join(app.examples)
    heading = "Examples" if len(app.examples) > 1 else "Example"
    command.__doc__ = f"{app.inputs.__doc__}\n\n[b]{heading}[/b]\n\n{examples}"
    return command


def values_of(app: App[Any, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The values that options give, with words joined."""
    values = {name: value for name, value in options.items() if value not in (None, [], False)}
    *_, last = app.inputs.positional
    several = [name for name in app.inputs.positional if isinstance(values.get(name), list)]
    for name in several:
        if name in ("prompt", "words"):
            values[name] = " ".join(values[name])
    if last not in values and app.inputs.model_fields[last].is_required() and several:
        *values[several[-1]], values[last] = values[several[-1]]
    return values
