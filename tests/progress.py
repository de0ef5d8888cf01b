"""What long work tells, as tests keep it."""

from __future__ import annotations

from danqing.core.progress import Progress


class Lines(list[str]):
    """A progress callback that keeps the messages."""

    def __call__(self, progress: Progress) -> None:
        """Keep one."""
        self.append(progress.message)
