"""Teach a model a subject from a few pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from danqing.apps._inputs import AppInputs
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.errors import BadBrief, BadData
from danqing.core.field_groups import Anyway, ModelChoice, Seed, Text
from danqing.core.image_ref import ImageLookup, ImageRef
from danqing.core.progress import ProgressCallback
from danqing.core.source_image import SUFFIXES

PICTURES_MIN = 2


def _trigger_name(name: str) -> str:
    if not re.fullmatch(r"[^\W\d][\w-]*", name):
        raise ValueError("begin with a letter, then letters, digits, dashes, as in my-cat")
    return name


class Learn(Anyway, ModelChoice, AppInputs):
    """Teach a model a subject from a few pictures, to paint it anywhere.

    Takes some minutes. Stop it with Ctrl-C; called again it goes on where it stopped. What was learned is
    learned longer by its name alone: danqing learn my-cat --further 200.
    """

    positional: ClassVar[tuple[str, ...]] = ("name", "images")

    photo_advice: ClassVar[str] = (
        "it will not look alike; danqing cutout and stylize make drawings of photos to learn from,"
        " and --model sd15 learns photos (--anyway for no warning)"
    )

    name: Annotated[Text, AfterValidator(_trigger_name)] = Field(
        min_length=1, max_length=60, description="how you will call it: <NAME> in a prompt"
    )
    images: tuple[ImageRef, ...] = Field(
        default=(), description="three to five pictures, or a folder of them"
    )
    kind: Text = Field(default="thing", min_length=1, description="what it is one of, such as cat")
    method: Literal["dreambooth", "textual-inversion", "both"] = Field(
        default="dreambooth", description="dreambooth, textual-inversion or both"
    )
    steps: int = Field(
        default=400,
        ge=1,
        le=100_000,
        description="more is more alike, then less obedient",
        json_schema_extra={"unit": "steps"},
    )
    further: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="how many steps more for what is learned already",
        json_schema_extra={"unit": "steps"},
    )
    restart: bool = Field(default=False, description="learn it anew, and forget what was learned")
    rank: int = Field(
        default=16, ge=1, le=256, description="size of what is learned", json_schema_extra={"advanced": True}
    )
    lr: float | None = Field(
        default=None, gt=0, le=1, description="learning rate", json_schema_extra={"advanced": True}
    )
    prior: int = Field(
        default=24,
        ge=0,
        le=1000,
        description="pictures of its kind to hold on to, 0 = none",
        json_schema_extra={"unit": "pictures", "advanced": True},
    )
    seed: Seed = Field(default=0, description="fixes all that is random")

    def start_pictures(self) -> list[ImageRef]:
        """As the base class, with folders replaced by their files."""
        return self.files()

    def files(self) -> list[ImageRef]:
        """The pictures, with folders replaced by the picture files in them."""
        refs: list[ImageRef] = []
        for ref in self.images:
            if ref.path is None or not ref.path.is_dir():
                refs.append(ref)
                continue
            files = (file for file in ref.path.iterdir() if file.suffix.lower() in SUFFIXES)
            refs += map(ImageRef, sorted(files))
        return refs


def _prepare(values: Mapping[str, Any], session: Session, image_lookup: ImageLookup) -> Learn:
    """Parse the inputs; files that are not pictures are refused before the model is opened."""
    from danqing.apps._image_files import pictures_in
    from danqing.apps._parse import validate
    from danqing.apps._photos import photo_notes

    inputs = validate(Learn, values, image_lookup)
    _check_place(inputs, session)
    if not inputs.images:  # those of an earlier call are used
        session.card(inputs.model)
        return inputs
    pictures_in(inputs.images)  # raises for folders without pictures
    for ref in inputs.images:
        if ref.path is None or not ref.path.is_dir():
            inputs.add_notes(*ref.source.notes)
    count = len(inputs.files())
    if count < PICTURES_MIN:
        raise BadData(f"a subject is learned from 2 pictures or more, best 4, not {count}: give more")
    card = session.card(inputs.model)  # raises for an unknown model
    inputs.add_notes(*photo_notes(inputs, card))
    return inputs


@app(
    Learn,
    output="adapter",
    prepare=_prepare,
    examples=(
        "danqing learn my-cat photos/ --class cat",
        'danqing paint "a <my-cat>, ink wash style"',
        "danqing learn my-cat --further 200",
    ),
)
def learn(inputs: Learn, session: Session, progress: ProgressCallback) -> Path:
    """Train an adapter `name` on pictures; returns its file in the session's folder of adapters.

    Checkpoints, sheets and scores are in a folder of that name next to the file. A stopped run resumes from
    there. A finished run continues for `further` steps at its last learning rate; several such calls give the
    same result as one call with the sum of the steps. Fields that are not set keep their values of the
    earlier call. The weights of the painter are unchanged afterwards, bit for bit.

    Raises:
        BadBrief: the method is unknown, or the name is taken or cannot be written as `<name>`.
        BadData: there are fewer than two different pictures, or other ones than before.
        BadPicture: a picture cannot be read.
    """
    from danqing.apps._learn import learn_subject

    return learn_subject(inputs, session, progress)


def _check_place(inputs: Learn, session: Session) -> None:
    """Check, before a model is opened, that the run can start or resume, and that the name is free."""
    from danqing.tuning.subject_run import SubjectRun

    folder = session.new_adapters
    if inputs.further and inputs.restart:
        raise BadBrief("--further goes on and --restart begins anew: leave one out")
    if inputs.restart and inputs.images:
        return
    if SubjectRun(folder / inputs.name).options() is not None:
        return
    if inputs.further or inputs.restart or not inputs.images:
        raise BadBrief(f"nothing was learned as {inputs.name!r} in {str(folder)!r}: give its pictures first")
    file = folder / f"{inputs.name}.safetensors"
    if file.exists():
        raise BadBrief(f"{str(file)!r} was not learned here: choose another name, or --restart replaces it")
