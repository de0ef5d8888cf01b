"""Whether a server that runs on this computer, with the model open, paints for a command. Needs no torch.

Only a server of the same user and of this very danqing is asked, and only where it paints the same bytes:
with the same model, adapters, device, dtype and backend. Where it does not, or is busy, the command paints by
itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing.apps import App, NamedSession, Session
from danqing.core.errors import BadBrief, DanqingError
from danqing.interfaces.cli.config import check_setting
from danqing.interfaces.cli.options import option

if TYPE_CHECKING:
    from danqing.apps.paint import Paint
    from danqing.interfaces.local_client import LocalClient

NO_SERVER = option(
    "no_server",
    "--no-server",
    kind=bool,
    help="Paint here, also where a studio or a server runs on this computer.",
    unset="",
)
_APPS = ("paint",)
_HERE = ("control", "control_model", "ip_image", "ip_adapter", "batch")  # fields of what is painted here
_PATIENCE = 5.0  # seconds for a server to say how it is


@dataclass
class HandOver:
    """Finds who carries out the requests of a command.

    session: of the command. enabled: whether a server may.
    """

    session: Session
    enabled: bool
    _noted: str = ""

    def app_for(self, app: App[Any, Any], inputs: Any, note: Callable[[str], None]) -> App[Any, Any]:
        """The app, which a server runs where one can; `note` is told which, once."""
        client = self._client(inputs) if self.enabled and takes_hand_over(app) else None
        if client is None:
            return app
        from danqing.interfaces.cli.remote_paint import remote_paint

        if self._noted != client.server.url:
            self._noted = client.server.url
            note(f"the studio at {client.server.url} paints (--no-server paints here)")
        remote = copy(app)
        remote.run = partial(remote_paint, app, client)
        return remote

    def _client(self, inputs: Paint) -> LocalClient | None:
        """A client of a server that is free and paints the same as this command; None without one."""
        from danqing.interfaces.local_socket import local_servers

        if set(_HERE) & inputs.model_fields_set or self.session.painter_is_fixed:
            return None
        for server, place in local_servers():
            mine = self.session.device, self.session.dtype, self.session.backend
            if mine != (server.device, server.dtype, server.backend):
                continue
            folder = Path(server.folder)
            theirs = NamedSession(models=folder / "models", adapters=folder / "adapters")
            if not _same_files(inputs, self.session, theirs):
                continue
            from danqing.interfaces.local_client import LocalClient

            if _is_free(client := LocalClient(server, place)):
                return client
        return None


def takes_hand_over(app: App[Any, Any]) -> bool:
    """Whether a server may run an app for a command."""
    return app.name in _APPS


def use_servers(config: Mapping[str, str]) -> bool:
    """Whether commands and servers shall find each other, by DANQING_SERVER and the settings.

    Raises:
        BadBrief: the variable says what is no choice.
    """
    choice = os.environ.get("DANQING_SERVER") or config.get("server", "auto")
    check_setting("server", choice, "DANQING_SERVER")
    return choice == "auto"


def _same_files(inputs: Paint, mine: Session, theirs: Session) -> bool:
    """Whether the names of a request mean the same files for two sessions."""
    brief = inputs.resolved_brief
    try:
        for name in filter(None, (brief.model, brief.refiner)):
            if mine.place_of(name).resolve() != theirs.place_of(name).resolve():
                return False
        if brief.vae and mine.vae_place(brief.vae).resolve() != theirs.vae_place(brief.vae).resolve():
            return False
    except BadBrief:  # the server does not know it
        return False
    names = {name for single in inputs.expanded_briefs for name in single.brief.adapters}
    if not names:
        return True
    ours, others = mine.adapter_files(brief.model), theirs.adapter_files(brief.model)
    return all(name in ours and _place(ours[name]) == _place(others.get(name)) for name in names)


def _place(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()


def _is_free(client: LocalClient) -> bool:
    """Whether a server answers, lets us in, and has a worker that waits for work."""
    whole, client.seconds = client.seconds, _PATIENCE
    try:
        queue = client.capabilities()["queue"]
    except (DanqingError, OSError, ValueError, KeyError):
        return False
    finally:
        client.seconds = whole
    return bool(queue["waiting"] + queue["running"] < queue["workers"])
