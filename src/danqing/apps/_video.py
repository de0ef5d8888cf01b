"""Writes frames as a video: GIF and WebP by Pillow, MP4 by ffmpeg, or a folder of pictures."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from danqing.core.errors import BadBrief, DanqingError
from danqing.core.files import add_file, atomic_write
from danqing.core.picture import Picture

Write = Callable[[Iterable[Image.Image], Path, float, Picture], None]
"""Writes a video from (frames of one size, file, frames per second, first frame with the metadata)."""


def film_writer(path: Path) -> Write | None:
    """The function that writes the format of the suffix of `path`; None for a folder, without a suffix.

    Raises:
        BadBrief: the suffix is unknown, or needs a program that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == "":
        return None
    if suffix not in _WRITERS:
        raise BadBrief(
            f"cannot save {path.name!r}: end the name with {', '.join(_WRITERS)}, or nothing for a folder"
        )
    if suffix == ".mp4":
        find_ffmpeg()
    return _WRITERS[suffix]


def save_film(frames: Iterable[Picture], path: Path, fps: float, *, overwrite: bool = True) -> Path:
    """Write frames into a video file, completely or not at all.

    overwrite: if False, an existing file stays, and the next free name is used.

    Returns:
        The path of the video.

    Raises:
        BadBrief: as `film_writer`.
        DanqingError: the file cannot be written.
    """
    write = film_writer(path)
    assert write is not None, "a folder of frames is a FrameFolder"
    first, *others = frames
    images = (picture.image for picture in (first, *others))
    if not overwrite:
        return add_file(path, lambda draft: write(images, draft, fps, first))
    with atomic_write(path) as draft:
        write(images, draft, fps, first)
    return path


def find_ffmpeg() -> str:
    """The path of ffmpeg: that on the PATH, else that of the package imageio-ffmpeg.

    Raises:
        BadBrief: there is none.
    """
    program = shutil.which("ffmpeg")
    if program is None and importlib.util.find_spec("imageio_ffmpeg") is not None:
        program = str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    if program is None:
        raise BadBrief("an .mp4 needs ffmpeg: install it, or pip install imageio-ffmpeg, or use .webp")
    return program


def _write_gif(frames: Iterable[Image.Image], path: Path, fps: float, film: Picture) -> None:
    first, *others = (_on_white(frame) for frame in frames)
    duration, comment = 1000 / fps, film.comment()
    first.save(path, "GIF", save_all=True, append_images=others, duration=duration, loop=0, comment=comment)


def _write_webp(frames: Iterable[Image.Image], path: Path, fps: float, film: Picture) -> None:
    first, *others = frames
    duration, exif = round(1000 / fps), film.exif()
    first.save(path, "WEBP", save_all=True, append_images=others, duration=duration, quality=90, exif=exif)


def _write_mp4(frames: Iterable[Image.Image], path: Path, fps: float, film: Picture) -> None:
    first, *others = frames
    width, height = first.size
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
    even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # H.264 needs even sides
    comment = f"comment={film.comment().decode()}"
    made = ["-metadata", comment, "-vf", even, "-pix_fmt", "yuv420p", "-f", "mp4", str(path)]
    done = subprocess.run(
        [find_ffmpeg(), "-y", "-loglevel", "error", *source, *made],
        input=b"".join(_on_white(frame).tobytes() for frame in (first, *others)),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines() or ["it said nothing"]
        raise DanqingError(f"ffmpeg could not write {path.suffix}: {lines[-1]}; use .webp or .gif")


def _on_white(frame: Image.Image) -> Image.Image:
    if frame.mode == "RGB":
        return frame
    ground = Image.new("RGBA", frame.size, "white")
    return Image.alpha_composite(ground, frame.convert("RGBA")).convert("RGB")


_WRITERS: dict[str, Write] = {".gif": _write_gif, ".webp": _write_webp, ".mp4": _write_mp4}
