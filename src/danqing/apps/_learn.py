"""Learning a subject from a few pictures (DreamBooth, textual inversion), to paint it as `<name>`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from danqing.apps._job import diffusion_painter
from danqing.apps._session import Session
from danqing.apps.learn import Learn
from danqing.core.errors import BadBrief
from danqing.core.progress import ProgressCallback
from danqing.data.vocabulary import things
from danqing.tuning.adapter_files import read_adapter, write_adapter
from danqing.tuning.dreambooth import subject_pictures
from danqing.tuning.learning import LearnOptions
from danqing.tuning.learning import learn as learn_adapter


def learn_subject(inputs: Learn, session: Session, progress: ProgressCallback) -> Path:
    """See `learn.learn`."""
    painter = diffusion_painter(session.painter(inputs.model))
    if inputs.name in painter.adapters:
        raise BadBrief(
            f"name {inputs.name!r} is taken by an adapter of model {painter.card.name!r}: choose another"
        )
    pixels = subject_pictures([ref.source.image for ref in inputs.files()], painter)
    run, scorer = session.new_adapters / inputs.name, session.clip_scorer()
    adapter = learn_adapter(painter, pixels, _options(inputs, session), run, scorer, progress)
    path = session.new_adapters / f"{inputs.name}.safetensors"
    write_adapter(replace(adapter, name=inputs.name), path)
    return path


def _options(inputs: Learn, session: Session) -> LearnOptions:
    return LearnOptions(
        name=inputs.name,
        kind=inputs.kind,
        method=inputs.method,
        steps=inputs.steps,
        lr=inputs.lr,
        rank=inputs.rank,
        seed=inputs.seed,
        prior_count=inputs.prior,
        prior_weight=1.0 if inputs.prior else 0.0,
        avoid=(*things(), *_triggers(inputs.name, session)),
    )


def _triggers(name: str, session: Session) -> list[str]:
    """What the model answers to for other subjects learned here: two can be painted together."""
    others = (path for other, path in session.adapter_files().items() if other != name)
    return [read_adapter(path).trigger for path in others]
