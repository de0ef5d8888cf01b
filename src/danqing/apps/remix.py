"""Paint variations of a picture with other words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.apps.vary import Vary
from danqing.core.field_groups import PROMPT_MAX, Text
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Remix(Vary):
    """Paint variations of a picture with other words."""

    positional: ClassVar[tuple[str, ...]] = ("image", "prompt")

    prompt: Text = Field(min_length=1, max_length=PROMPT_MAX, description="what the variation shall show")


@app(Remix, examples=('danqing remix fox.png "a fox, ink wash style"',))
def remix(inputs: Remix, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Variations of `image` with another `prompt`. Raises as `vary`."""
    from danqing.apps._job import Job
    from danqing.apps._vary import vary_source

    return vary_source(Job.start("vary", inputs, session, progress, image=inputs.image, cell=inputs.cell))
