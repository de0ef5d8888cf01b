"""Turns a client's request into a job, validated as far as possible without opening a model.

Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Never

from danqing.apps import App, AppInputs, NamedSession, PictureFiles, ResolvedInputs, find_app, names, validate
from danqing.core.card import Card
from danqing.core.errors import BadBrief, unknown
from danqing.core.image_ref import ImageLookup
from danqing.studio.jobs import NewJob

if TYPE_CHECKING:
    from danqing.core.painter import Painter

_LOCAL_APPS = ("search",)  # its folder is a path on this computer; the gallery has its own search
_TEXT_MAX = 20_000  # most characters of an input; prompts have a limit of their own


class _NeedsModel(Exception):  # noqa: N818
    """The request can only be validated with an open model."""


class CardSession(NamedSession):
    """A session that reads cards and opens no models."""

    def open_card(self, model: str) -> Card:
        """The card of a model that has one."""
        if (card := self.card(model)) is None:
            self._refuse()
        return card

    def painter(self, model: str, vae: str | None = None) -> Painter:  # noqa: ARG002
        """Always raises: no painter is opened here."""
        self._refuse()

    def classifier(self, place: str | None = None) -> Never:  # noqa: ARG002
        """Always raises: no classifier is opened here."""
        self._refuse()

    def _refuse(self) -> Never:
        raise _NeedsModel


def studio_apps() -> list[str]:
    """The names of the apps that a studio offers."""
    return [name for name in names() if name not in _LOCAL_APPS]


def studio_app(name: str) -> App[Any, Any]:
    """The app called `name`. Raises BadBrief: a studio has none of that name; the nearest is named."""
    if name not in studio_apps():
        raise BadBrief(unknown("app", name, studio_apps()), "app")
    return find_app(name)


def parse_request(
    name: str, values: Mapping[str, Any], session: CardSession, lookup: ImageLookup, key: str | None = None
) -> NewJob:
    """The job for a client's request. Random choices are made here, so that a second attempt paints the same.

    Raises:
        BadBrief: the request is not valid.
        BadPicture: a picture cannot be read.
    """
    app = studio_app(name)
    check_values(app, values)
    try:
        inputs = app.parse(values, session, lookup)
    except _NeedsModel:  # the worker validates the rest
        inputs = validate(app.inputs, values, lookup)
    stored = {**values, **_drawn_seeds(inputs)}
    return NewJob(name, _model(inputs), stored, expected_pictures(app, inputs), list(inputs.notes), key)


def check_values(app: App[Any, Any], values: Mapping[str, Any]) -> None:
    """Raises BadBrief: a value is reserved for users of this computer, or a text is far too long."""
    for field in values:
        if field in app.local_fields:
            raise BadBrief(f"{field} is a path, which a server does not take: leave it out", field)
    for field, value in values.items():
        if isinstance(value, str) and len(value) > _TEXT_MAX:
            raise BadBrief(f"{field} has {len(value)} characters: use {_TEXT_MAX} or fewer", field)


def expected_pictures(app: App[Any, Any], inputs: AppInputs) -> int | None:
    """The number of pictures that a job will make; None if that is not known yet."""
    if app.output == "film":
        return 1
    if app.output != "pictures" or not isinstance(inputs, PictureFiles):
        return None
    if isinstance(inputs, ResolvedInputs):
        return len(inputs.marks) if inputs.is_resolved else None
    return len(inputs.marks)


def _drawn_seeds(inputs: AppInputs) -> dict[str, Any]:
    """The randomly chosen seeds among the inputs."""
    if isinstance(inputs, ResolvedInputs) and inputs.is_resolved:
        brief = inputs.resolved_brief
        seeds = {"seed": brief.seed, "variation_seed": brief.variation_seed if brief.variation else None}
    else:
        seeds = {"seed": getattr(inputs, "seed", None)}
    return {
        name: seed for name, seed in seeds.items() if seed is not None and name in type(inputs).model_fields
    }


def _model(inputs: AppInputs) -> str:
    if isinstance(inputs, ResolvedInputs) and inputs.is_resolved:
        return inputs.resolved_brief.model
    return str(getattr(inputs, "model", None) or "")
