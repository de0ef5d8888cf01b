"""Reading a captioned folder of pictures into memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from danqing.core.errors import BadData


@dataclass(frozen=True)
class Stickers:
    """Pictures [n 4 h w] uint8, colour over white with alpha last, and one row of metadata for each."""

    pictures: Tensor
    rows: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, keep: Callable[[dict[str, Any]], bool]) -> Stickers:
        """Only the rows that `keep` accepts."""
        index = [i for i, row in enumerate(self.rows) if keep(row)]
        return Stickers(self.pictures[index], tuple(self.rows[i] for i in index))

    def column(self, name: str) -> list[str]:
        """The values of one metadata field, in order."""
        return [str(row[name]) for row in self.rows]


def read_imagefolder(folder: Path, least: int = 2) -> Stickers:
    """All pictures of an imagefolder with `metadata.jsonl` (fields file_name, text).

    Raises:
        BadData: no metadata, fewer than `least` readable pictures, or pictures of different sizes.
    """
    index = folder / "metadata.jsonl"
    if not index.is_file():
        raise BadData(f"{str(index)!r} is missing: build the data set first, as with 'danqing data stickers'")
    rows = [json.loads(line) for line in index.read_text("utf-8").splitlines() if line.strip()]
    read = [(picture, row) for row in rows if (picture := _over_white(folder / row["file_name"])) is not None]
    if len(read) < least:
        raise BadData(f"{str(folder)!r} holds {len(read)} readable pictures of {len(rows)}: at least {least} are needed")
    sizes = {picture.shape for picture, _ in read}
    if len(sizes) > 1:
        raise BadData(f"{str(folder)!r} mixes picture sizes {sorted(sizes)}: resize them to one size")
    return Stickers(torch.from_numpy(np.stack([p for p, _ in read])), tuple(row for _, row in read))


def _over_white(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """[4 h w] uint8, colour over white and alpha; None for a file that is no picture."""
    try:
        rgba = Image.open(path).convert("RGBA")
    except (OSError, UnidentifiedImageError):
        return None
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    colour = np.asarray(white)[..., :3]
    return np.concatenate([colour, np.asarray(rgba)[..., 3:]], axis=-1).transpose(2, 0, 1).copy()


def to_unit(pictures: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return pictures.float().div_(127.5).sub_(1)
