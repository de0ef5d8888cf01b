"""The commands of the apps: each is made from its app's inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from danqing.apps import App, Session, find_app
from danqing.core.errors import BadBrief, BadPicture, DanqingError, NotFinite
from danqing.interfaces.cli.batch import CommandRequest, check_out, read_requests
from danqing.interfaces.cli.config import read_config
from danqing.interfaces.cli.defaults import with_defaults, with_places
from danqing.interfaces.cli.hand_over import NO_SERVER, HandOver, takes_hand_over, use_servers
from danqing.interfaces.cli.options import CONTEXT, app_parameters, set_signature
from danqing.interfaces.cli.outputs import OUTPUTS, Output
from danqing.interfaces.cli.report import SCRIPT_OPTIONS, Report
from danqing.interfaces.cli.standard_input import StandardInput
from danqing.interfaces.cli.viewing import OPTIONS, view

WITH_PICTURES = ("pictures", "film", "lineage")  # kinds of results that can be shown


def app_command(name: str) -> Callable[..., None]:
    """The command of the app called `name`."""
    app = find_app(name)
    output = OUTPUTS[app.output]

    viewing = OPTIONS if app.output in WITH_PICTURES else ()
    own = (*output.options, *viewing, *([NO_SERVER] if takes_hand_over(app) else []))

    @set_signature(CONTEXT, *app_parameters(app.inputs), *own, *SCRIPT_OPTIONS)
    def command(context: typer.Context, as_json: bool, quiet: bool, **options: Any) -> None:
        session = context.obj if isinstance(context.obj, Session) else Session()
        report = Report(as_json=as_json, quiet=quiet)
        extra = {parameter.name: options.pop(parameter.name) for parameter in own}
        standard_input = StandardInput()
        requests = read_requests(app, options, extra.get("from_file"), standard_input)
        check_out(extra.get("out"), requests)
        config = read_config()
        hand_over = HandOver(session, enabled=not extra.get("no_server", True) and use_servers(config))
        extra = with_places(app, extra, config)
        run = Run(app, output, session, report, extra, standard_input, config, hand_over)
        if len(requests) == 1 and not requests[0].place:
            run.one(requests[0])
        else:
            run.several(requests)

    examples = "\n\n".join(app.examples)
    heading = "Examples" if len(app.examples) > 1 else "Example"
    command.__doc__ = f"{app.inputs.__doc__}\n\n[b]{heading}[/b]\n\n{examples}"
    return command


@dataclass(frozen=True)
class Run:
    """What carries out the requests of one command, with the models of one session."""

    app: App[Any, Any]
    output: Output
    session: Session
    report: Report
    extra: dict[str, Any]
    standard_input: StandardInput
    config: dict[str, str]
    hand_over: HandOver

    def one(self, request: CommandRequest) -> None:
        """Carry out a request."""
        inputs = self._parse(request)
        extra = {**self.extra, "out": request.out} if request.out is not None else self.extra
        self.report.start(inputs.notes)
        app = self.hand_over.app_for(self.app, inputs, self.report.note)
        self.output.run(app, inputs, self.session, extra, self.report)
        if extra.get("open_it") or extra.get("preview"):
            for path in self.report.latest:
                view(path, self.report, open_it=extra["open_it"], preview=extra["preview"])

    def several(self, requests: Sequence[CommandRequest]) -> None:
        """Carry out requests one after another, once all of them are known to be right.

        A picture that cannot be read is reported and left out, and so is one whose numbers break down.

        Raises:
            BadBrief: one of them is wrong; nothing is done. DanqingError: some failed, all others are done.
        """
        readable = [request for request in requests if self._is_readable(request)]
        done = 0
        for request in readable:
            try:
                self.one(request)
                done += 1
            except (BadBrief, BadPicture, NotFinite) as error:  # of this one alone
                self.report.failure(request.error(error))
            except DanqingError as error:  # a disk or a model: the next one would fail likewise
                raise DanqingError(f"{request.error(error)} ({done} of {len(requests)} are done)") from None
        if done < len(requests):
            raise DanqingError(f"{len(requests) - done} of {len(requests)} failed, {done} are done")

    def _is_readable(self, request: CommandRequest) -> bool:
        """Whether the pictures of a request can be read."""
        try:
            self._parse(request)
        except BadBrief as error:
            raise BadBrief(request.error(error)) from None
        except BadPicture as error:
            self.report.failure(request.error(error))
            return False
        return True

    def _parse(self, request: CommandRequest) -> Any:
        values = with_defaults(self.app, request.values, self.config, self.standard_input.image)
        return self.app.parse(values, self.session, self.standard_input.image)
