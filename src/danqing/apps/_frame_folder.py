"""A folder that saves each frame of a video when it is painted, so that an interrupted run can resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from danqing.core.errors import BadBrief, BadPicture
from danqing.core.files import atomic_write, check_writable
from danqing.core.picture import Picture

SETTINGS = "settings.txt"


class FrameFolder:
    """A folder with frame-00000.png, frame-00001.png, ..., and with settings.txt for the same video.

    While the video is unfinished, it also has native-NNNNN.png: the last frame at native size, before
    upscaling, from which the next frame starts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.path / SETTINGS

    def check(self, settings: str, *, resume: bool) -> None:
        """Check that the folder can be written and has no frames of another video.

        settings: the text of the settings file of this video.

        Raises:
            BadBrief: it has frames and `resume` is False, or frames of a video with other settings.
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
        """The number of finished frames before the first missing one."""
        count = 0
        while self._frame(count).is_file():
            count += 1
        return count

    def frames(self, count: int) -> Iterator[Picture]:
        """The first `count` frames of the video.

        Raises:
            BadPicture: a frame is damaged.
        """
        return (Picture.open(self._frame(k)) for k in range(count))

    def last_native(self, count: int) -> Picture:
        """The last of `count` frames at native size.

        Raises:
            BadBrief: the file was removed, because the video was finished.
        """
        try:
            return Picture.open(self._native(count - 1))
        except BadPicture:
            raise BadBrief(
                f"{str(self.path)!r} cannot go on after frame {count - 1}: "
                f"{self._native(count - 1).name} is missing; choose another place"
            ) from None

    def add(self, k: int, frame: Picture, native: Picture) -> None:
        """Save frame k. The picture at native size is written first, so that every frame has one."""
        native.save(self._native(k))
        frame.save(self._frame(k))
        if k > 0:
            self._native(k - 1).unlink(missing_ok=True)

    def finish(self) -> None:
        """Remove the files that only an unfinished video needs."""
        for path in self.path.glob("native-*.png"):
            path.unlink()

    def remove(self) -> None:
        """Remove the folder with its frames, after they are in a video file."""
        self.finish()
        for path in (*self.path.glob("frame-*.png"), self.settings):
            path.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def _frame(self, k: int) -> Path:
        return self.path / f"frame-{k:05d}.png"

    def _native(self, k: int) -> Path:
        return self.path / f"native-{k:05d}.png"
