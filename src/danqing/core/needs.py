"""The time, memory and disk space that long work needs, reported and checked before it starts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from danqing.core.errors import DanqingError

if TYPE_CHECKING:
    import torch

    from danqing.core.brief import ResolvedBrief
    from danqing.core.painter import Canvas, Conditioning, Painter

T = TypeVar("T")
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Needs:
    """What a piece of work needs.

    seconds: duration, measured on this machine.
    memory: peak memory of this process so far, in bytes; 0 where the system does not report it.
    disk: size of the files that the work writes, in bytes.
    """

    seconds: float
    memory: int
    disk: int

    def __str__(self) -> str:
        time, disk = time_text(self.seconds), size_text(self.disk)
        if not self.memory:
            return f"about {time} and {disk} of disk"
        return f"about {time}, {size_text(self.memory)} of memory and {disk} of disk"


def time_text(seconds: float) -> str:
    """A time to two digits or so, such as "50 s", "6 min" or "3.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def size_text(size: float) -> str:
    """A number of bytes to two digits or so, such as "840 KiB" or "1.2 GiB"."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < 10 else f"{size:.0f} {_UNITS[unit]}"


def check_room(folder: Path, size: int) -> None:
    """Check that files of `size` bytes fit into a folder, before minutes of work are lost.

    folder: need not exist yet.

    Raises:
        DanqingError: they do not fit; the message names the folder, the free space and the needed space.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    with suppress(OSError):  # where the file system reports no free space, there may be enough
        free = shutil.disk_usage(place).free
        if free < size:
            raise DanqingError(
                f"the disk of {str(folder)!r} has {size_text(free)} free and {size_text(size)} are needed: "
                "make room, or choose another place"
            )


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process on a device so far, in bytes; 0 where the system does not report it."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_reserved(device)
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def second_of(work: Iterator[T]) -> tuple[T, float]:
    """The result of the second round of some work, and its seconds; of the first if there is only one.

    The first round also allocates memory and prepares kernels, so it takes longer than the others.
    """
    start = perf_counter()
    result = next(work)
    seconds = perf_counter() - start
    start = perf_counter()
    for result in work:
        return result, perf_counter() - start
    return result, seconds


def try_step(
    painter: Painter, brief: ResolvedBrief, conditioning: Conditioning, n: int
) -> tuple[Canvas, float]:
    """A canvas of n pictures and the seconds of one step. Random generators of the caller do not advance."""
    from danqing.core.seeds import Seeds

    canvas = painter.begin(brief, conditioning, Seeds.of(brief.seed, n))
    # a GPU works asynchronously: the copy to the CPU waits until the step is finished
    done = (step for step in painter.steps(brief, conditioning, canvas) if step.state.cpu() is not None)
    return second_of(done)
