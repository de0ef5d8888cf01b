"""The dependencies of routes: the studio and the caller."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from danqing.interfaces.server.hub import Hub
from danqing.studio.accounts import Identity
from danqing.studio.service import Studio


def _studio(request: Request) -> Studio:
    studio = request.app.state.studio
    assert isinstance(studio, Studio)
    return studio


def _hub(request: Request) -> Hub:
    hub = request.app.state.hub
    assert isinstance(hub, Hub)
    return hub


def identity_of(request: Request) -> Identity:
    """The caller's identity. Raises AttributeError: the route needs no account, so there is no identity."""
    identity = request.state.identity
    assert isinstance(identity, Identity)
    return identity


def _owner(request: Request) -> str:
    return identity_of(request).owner


StudioParam = Annotated[Studio, Depends(_studio)]
HubParam = Annotated[Hub, Depends(_hub)]
Owner = Annotated[str, Depends(_owner)]
Caller = Annotated[Identity, Depends(identity_of)]
Id = Annotated[str, Path(max_length=40, pattern=r"^[0-9A-Za-z_-]+$")]
Name = Annotated[str, Path(max_length=100)]
Before = Annotated[str | None, Query(max_length=40, description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200)]
