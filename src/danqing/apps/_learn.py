"""Trains an adapter on a few pictures of a subject (DreamBooth, textual inversion), called `<name>`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from danqing.apps._job import diffusion_painter
from danqing.apps._session import Session
from danqing.apps.learn import Learn
from danqing.core.errors import BadBrief
from danqing.core.progress import ProgressCallback
from danqing.data.vocabulary import things
from danqing.diffusion.painter import DiffusionPainter
from danqing.tuning.adapter_files import read_adapter, write_adapter
from danqing.tuning.dreambooth import subject_pictures
from danqing.tuning.learning import kept_pictures
from danqing.tuning.learning import learn as learn_adapter
from danqing.tuning.subject_run import LearnOptions, SubjectRun


def learn_subject(inputs: Learn, session: Session, progress: ProgressCallback) -> Path:
    """See `learn.learn`."""
    painter = diffusion_painter(session.painter(inputs.model))
    if inputs.name in painter.adapters:
        raise BadBrief(
            f"name {inputs.name!r} is taken by an adapter of model {painter.card.name!r}: choose another"
        )
    run = SubjectRun(session.new_adapters / inputs.name)
    pixels = _pictures(inputs, painter, run)
    options = _options(inputs, session, run)
    if inputs.restart:
        run.clear()
    adapter = learn_adapter(painter, pixels, options, run.folder, session.clip_scorer(), progress)
    path = session.new_adapters / f"{inputs.name}.safetensors"
    write_adapter(replace(adapter, name=inputs.name), path)
    return path


def _pictures(inputs: Learn, painter: DiffusionPainter, run: SubjectRun) -> Tensor:
    """The pictures of the request, or else those of an earlier call."""
    if inputs.images:
        return subject_pictures([ref.source.image for ref in inputs.files()], painter)
    return kept_pictures(run)


def _options(inputs: Learn, session: Session, run: SubjectRun) -> LearnOptions:
    """The options of the request, or else of an earlier call unless the run restarts with other pictures."""
    before = None if inputs.restart and inputs.images else run.options()
    if before is None:
        fresh = LearnOptions(inputs.name, inputs.kind)
        options = replace(fresh, **_values(inputs, set(_FIELDS)))
    else:
        options = replace(before, **_values(inputs, inputs.model_fields_set))
    if before is None or inputs.restart:
        avoid = (*things(), *_triggers(inputs.name, session))
        return replace(options, avoid=avoid, further=0)
    return run.longer(options, inputs.further) if inputs.further else options


_FIELDS = {
    "kind": "kind",
    "method": "method",
    "steps": "steps",
    "lr": "lr",
    "rank": "rank",
    "seed": "seed",
    "prior": "prior_count",
}
"""Field of `Learn` -> field of `LearnOptions`."""


def _values(inputs: Learn, names: set[str]) -> dict[str, Any]:
    values = {own: getattr(inputs, name) for name, own in _FIELDS.items() if name in names}
    return values | ({"prior_weight": 1.0 if inputs.prior else 0.0} if "prior" in names else {})


def _triggers(name: str, session: Session) -> list[str]:
    """The trigger words of other learned subjects, so that two can be painted together."""
    others = (path for other, path in session.adapter_files().items() if other != name)
    return [read_adapter(path).trigger for path in others]
