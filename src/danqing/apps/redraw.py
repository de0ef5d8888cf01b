"""Paint a picture anew from another one and words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from danqing.apps._control_inputs import ControlInputs
from danqing.apps._inputs import REDRAWN_PHOTO, PictureInputs
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.image_ref import ImageRef
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback


class Redraw(ControlInputs, PictureInputs):
    """Paint a picture anew from another one and words (image to image)."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.REDRAW})

    photo_advice: ClassVar[str] = REDRAWN_PHOTO

    strength: float = Field(
        default=0.6, gt=0, le=1, description="how far to leave the picture: 0.2 touches up, 1 repaints"
    )
    depth: ImageRef | None = Field(
        default=None, description="a depth map, white is near, for a model that paints by depth"
    )


@app(Redraw, examples=('danqing redraw sketch.png "a rabbit, 3d style" --strength 0.7',))
def redraw(inputs: Redraw, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Paint from `image` and `prompt` (image to image), at the size of `image` unless a size is set.

    Raises:
        BadBrief: the model does not support the request.
        BadPicture: the picture cannot be read.
    """
    from danqing.apps._job import Job
    from danqing.apps._redraw import redraw_source

    job = Job.start("redraw", inputs, session, progress, image=inputs.image)
    depth = None if inputs.depth is None else inputs.depth.source.image
    return redraw_source(job, depth, keep_size=True, prompt=inputs.prompt, **job.strong_guidance())
