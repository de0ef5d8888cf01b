"""Reads a folder of captioned pictures into memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from danqing.core.errors import BadData, shorten
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.core.source_image import SIDE_MIN, to_plain_rgb


@dataclass(frozen=True)
class CaptionedImages:
    """Captioned pictures in memory.

    pictures: uint8 [n 4 h w], colour over white, alpha last.
    rows: the metadata of each picture.
    """

    pictures: Tensor
    rows: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, keep: Callable[[dict[str, Any]], bool]) -> CaptionedImages:
        """The pictures whose row `keep` accepts."""
        index = [i for i, row in enumerate(self.rows) if keep(row)]
        return CaptionedImages(self.pictures[index], tuple(self.rows[i] for i in index))

    def split(self, out: Callable[[dict[str, Any]], bool]) -> tuple[CaptionedImages, CaptionedImages]:
        """Two data sets: the pictures whose row `out` refuses, and those whose row it accepts."""
        return self.where(lambda row: not out(row)), self.where(out)

    def column(self, name: str) -> list[str]:
        """The values of one metadata field, in order."""
        return [str(row[name]) for row in self.rows]

    def require(self, *names: str) -> None:
        """Check, before training starts, that every picture has these metadata fields.

        Raises:
            BadData: a field is missing or empty; the message names the first such picture.
        """
        for row in self.rows:
            for name in names:
                if row.get(name) in (None, ""):
                    raise BadData(f"{row.get('file_name')!r} has no {name}: write it into metadata.jsonl")

    def check_captions(self) -> None:
        """Check, before training starts, that there is something to learn from the captions.

        Raises:
            BadData: a picture has no caption, or all captions are the same.
        """
        self.require("text")
        texts = self.column("text")
        if len(texts) > 1 and len(set(texts)) == 1:
            raise BadData(f"all {len(texts)} captions are {shorten(texts[0])!r}: say what differs")


def read_imagefolder(
    folder: Path, least: int = 2, progress: ProgressCallback = no_progress
) -> CaptionedImages:
    """Read all pictures of an imagefolder with `metadata.jsonl` (fields file_name and text).

    A picture file that is missing, damaged or tiny is skipped.

    progress: gets one message for each skipped file, and then their number.

    Raises:
        BadData: there is no metadata or it is damaged, fewer than `least` pictures are readable, or the
            pictures differ in size.
    """
    index = folder / "metadata.jsonl"
    if not index.is_file():
        raise BadData(f"{str(index)!r} is missing: build the data set first, as with 'danqing data stickers'")
    rows = list(read_rows(index))
    read, skipped = [], []
    for row in rows:
        picture = _over_white(folder / row["file_name"])
        if picture is None:
            skipped.append(f"{row['file_name']!r} is missing or no picture: skipped")
        elif min(picture.shape[1:]) < SIDE_MIN:
            skipped.append(f"{row['file_name']!r} is smaller than {SIDE_MIN} x {SIDE_MIN}: skipped")
        else:
            read.append((picture, row))
    if skipped:
        for line in (*skipped, f"{len(skipped)} of {len(rows)} pictures are skipped"):
            progress(Progress(message=line))
    if len(read) < least:
        raise BadData(
            f"{str(folder)!r} holds {len(read)} readable pictures of {len(rows)}: at least {least} are needed"
        )
    sizes = sorted({picture.shape[1:] for picture, _ in read})
    if len(sizes) > 1:
        list_of_sizes = ", ".join(f"{width} x {height}" for height, width in sizes)
        raise BadData(f"{str(folder)!r} mixes pictures of {list_of_sizes}: resize them to one size")
    return CaptionedImages(torch.from_numpy(np.stack([p for p, _ in read])), tuple(row for _, row in read))


def read_rows(index: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of `metadata.jsonl`.

    Raises:
        BadData: a line is not a JSON object with a `file_name` (the message names it), or the file is not
            UTF-8.
    """
    try:
        lines = index.read_text("utf-8").split("\n")  # splitlines would also break at U+2028 inside a caption
    except UnicodeDecodeError as error:
        raise BadData(f"{str(index)!r} is not UTF-8 ({error}): save it as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise BadData(
                f"{str(index)!r} line {number} is no JSON object with a file_name: mend or remove it"
            )
        yield row


def _over_white(path: Path) -> NDArray[np.uint8] | None:
    """The picture as uint8 [4 h w], colour over white and alpha; None if the file is not readable."""
    try:
        with Image.open(path) as image:
            rgba = to_plain_rgb(ImageOps.exif_transpose(image))[0].convert("RGBA")
    except (OSError, SyntaxError, ValueError):  # Pillow raises any of them for a damaged file
        return None
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    colour = np.asarray(white)[..., :3]
    return np.concatenate([colour, np.asarray(rgba)[..., 3:]], axis=-1).transpose(2, 0, 1).copy()


def to_unit(pictures: Tensor) -> Tensor:
    """Convert uint8 pictures to float32 in [-1, 1]."""
    return pictures.float().div_(127.5).sub_(1)
