"""What long work tells, as tests keep it."""

from __future__ import annotations

from danqing.core.progress import Progress


class Lines(list[str]):
    """A progress callback that keeps the messages; apart from them, the notes."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def __call__(self, progress: Progress) -> None:
        """Keep one."""
        if progress.note:
            self.notes.append(progress.note)
        else:
            self.append(progress.message)
