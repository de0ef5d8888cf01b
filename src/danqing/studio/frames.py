"""Progress of a running job, as small messages from a worker: the step and a small preview."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass

from danqing.core.progress import Progress

SIDE = 256  # pixels of a preview's longer side
BYTES_MAX = 12_000
_GAP = 1 / 12  # least seconds between frames
_SHARE = 0.05  # largest share of the time that is spent on previews


@dataclass(frozen=True)
class Frame:
    """The progress of a job.

    job: its id.
    step, of: units of work over all its pictures; `of` is 0 if that is unknown.
    message: text for the user.
    picture: index of the picture that is being made, from 0.
    preview: a JPEG; None if there is none.
    pace: mean seconds per step since the first report, which comes after the model is open; None at first.
    """

    job: str
    step: int
    of: int
    message: str = ""
    picture: int = 0
    preview: bytes | None = None
    pace: float | None = None

    @property
    def left(self) -> float | None:
        """Seconds until it is done, at its pace; None if that is unknown."""
        return None if self.pace is None or not self.of else self.pace * (self.of - self.step)

    @property
    def part(self) -> float:
        """The share of the work that is done, in [0, 1]."""
        return self.step / self.of if self.of else 0.0


class FrameThrottle:
    """Converts progress to frames, limited in rate and in the share of time for previews."""

    def __init__(self, job: str, send: Callable[[Frame], None]) -> None:
        self._job, self._send = job, send
        self._next = 0.0
        self.picture = 0
        self._message = ""
        self._first: tuple[float, int] | None = None  # time and step of the first report

    def __call__(self, progress: Progress) -> None:
        """Send a frame, unless the last one was a moment ago; the last step is always sent."""
        start = time.monotonic()
        self._message = progress.message or self._message
        self._first = self._first or (start, progress.step)
        if start < self._next and not progress.done:
            return
        preview = None if progress.preview is None else to_jpeg(progress)
        done, passed = progress.step - self._first[1], start - self._first[0]
        pace = passed / done if done > 0 else None
        self._send(Frame(self._job, progress.step, progress.of, self._message, self.picture, preview, pace))
        cost = time.monotonic() - start
        self._next = start + max(_GAP, cost / _SHARE)


def to_jpeg(progress: Progress) -> bytes:
    """The preview of the first unfinished picture as a JPEG of at most `BYTES_MAX`."""
    from PIL import Image

    assert progress.preview is not None
    look = progress.preview()[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0)
    image = Image.fromarray(look.cpu().numpy())
    image.thumbnail((SIDE, SIDE))
    for quality in (80, 60, 40, 20):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= BYTES_MAX:
            break
        image.thumbnail((image.width * 3 // 4, image.height * 3 // 4))
    return buffer.getvalue()
