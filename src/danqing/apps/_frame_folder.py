"""A folder that keeps the frames of a film as they are painted, so that an interrupted film goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from danqing.core.errors import BadBrief, BadPicture
from danqing.core.files import atomic_write, check_writable
from danqing.core.picture import Picture

SETTINGS = "settings.txt"


class FrameFolder:
    """frame-00000.png, frame-00001.png, ..., and settings.txt, which asks for the same film again.

    While the film is unfinished it also holds native-NNNNN.png: the last frame at the model's own size and
    before it is enlarged, from which the next one starts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.path / SETTINGS

    def check(self, settings: str, *, resume: bool) -> None:
        """Refuse a folder that holds another film, or that cannot be written.

        settings: the text of the settings file of this film.

        Raises:
            BadBrief: it holds frames and `resume` is False, or frames of a film with other settings.
            DanqingError: it cannot be written.
        """
        check_writable(self._frame(0))
        if not any(self.path.glob("frame-*.png")):
            return
        file = self.settings
        if not resume:
            raise BadBrief(
                f"{str(self.path)!r} holds {len(self)} frames of another film: --resume goes on with "
                "them, or choose another place"
            )
        if not file.is_file() or file.read_text("utf-8") != settings:
            raise BadBrief(
                f"the frames in {str(self.path)!r} are of a film with other settings: "
                f"--settings {file} goes on with it"
            )

    def start(self, settings: str) -> None:
        """Write the settings file, before the first frame."""
        with atomic_write(self.settings) as draft:
            draft.write_text(settings, "utf-8")

    def __len__(self) -> int:
        """How many frames are finished: those before the first one that is missing."""
        count = 0
        while self._frame(count).is_file():
            count += 1
        return count

    def frames(self, count: int) -> Iterator[Picture]:
        """The first frames of the film.

        Raises:
            BadPicture: one is damaged.
        """
        return (Picture.open(self._frame(k)) for k in range(count))

    def last_native(self, count: int) -> Picture:
        """The last of `count` frames at the model's own size.

        Raises:
            BadBrief: it is not there, because the film was finished.
        """
        try:
            return Picture.open(self._native(count - 1))
        except BadPicture:
            raise BadBrief(
                f"{str(self.path)!r} cannot go on after frame {count - 1}: "
                f"{self._native(count - 1).name} is missing; choose another place"
            ) from None

    def add(self, k: int, frame: Picture, native: Picture) -> None:
        """Keep frame k. The picture at the model's own size is written first, so that no frame lacks it."""
        native.save(self._native(k))
        frame.save(self._frame(k))
        if k > 0:
            self._native(k - 1).unlink(missing_ok=True)

    def finish(self) -> None:
        """Remove what only an unfinished film needs."""
        for path in self.path.glob("native-*.png"):
            path.unlink()

    def remove(self) -> None:
        """Remove the folder with its frames, once they are in a film."""
        self.finish()
        for path in (*self.path.glob("frame-*.png"), self.settings):
            path.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def _frame(self, k: int) -> Path:
        return self.path / f"frame-{k:05d}.png"

    def _native(self, k: int) -> Path:
        return self.path / f"native-{k:05d}.png"
