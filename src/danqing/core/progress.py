"""The progress of long work: one type for painting, tuning, training, evaluation and downloads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing torch takes seconds, and the command line needs only this module
    from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """The progress of one piece of work.

    step: units of work that are done, such as denoising steps; 0 before the first.
    of: all units of work; 0 where the number is unknown.
    message: what is being done, or a line of results; empty where there is nothing new.
    note: a line to keep on the screen, such as the time and memory needed; empty where there is none.
    preview: returns a preview of the unfinished pictures, [n 3 h w] in [0, 1]; None where there is none.
    """

    step: int = 0
    of: int = 0
    message: str = ""
    note: str = ""
    preview: Callable[[], Tensor] | None = None

    @property
    def done(self) -> bool:
        """Whether all units of work are done."""
        return 0 < self.of == self.step


ProgressCallback = Callable[[Progress], object]
"""Called after each unit of work. An exception in it cancels the work."""


def no_progress(progress: Progress) -> None:
    """A callback that does nothing."""


def part_of(callback: ProgressCallback, part: int, parts: int) -> ProgressCallback:
    """A callback for one of several equal parts of the work; it reports steps counted over all parts.

    part: counted from 0.
    """

    def overall(progress: Progress) -> object:
        step, of = part * progress.of + progress.step, parts * progress.of
        return callback(replace(progress, step=step, of=of))

    return overall
