"""Filters a folder of training pictures: scores each one, and writes to a manifest why it stays or goes.

Nothing is moved or deleted. The decision depends on scores and limits alone: the same folder gives the same
manifest, and a stricter limit never keeps more pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from danqing.core.errors import BadData, BadPicture
from danqing.core.files import atomic_write
from danqing.core.source_image import SUFFIXES, read_source
from danqing.data.dataset import read_rows

MANIFEST = "manifest.jsonl"

ImageScores = Callable[[Image.Image, str], Mapping[str, float]]
"""Maps a picture and its caption ("" for none) to further scores such as `match`, `aesthetic` or `unsafe`."""


@dataclass(frozen=True)
class Limits:
    """The limits that a picture must meet to stay; None switches a limit off.

    side: least length of the shorter side, in pixels.
    sharp: least variance of the Laplacian of the grey picture.
    twin: pictures whose perceptual hashes differ in at most so many bits are duplicates.
    match: least cosine of picture and caption.
    aesthetic: least score of the user's own classifier.
    unsafe: highest probability by the user's own classifier.
    """

    side: int = 64
    sharp: float = 20.0
    twin: int = 4
    match: float | None = None
    aesthetic: float | None = None
    unsafe: float | None = None


@dataclass(frozen=True)
class Verdict:
    """One line of the manifest: a file, its scores, whether it stays, and the reason if it does not."""

    file: str
    keep: bool
    reason: str
    scores: dict[str, float]
    hash: str = ""


def filter_folder(folder: Path, limits: Limits, scorers: Iterable[ImageScores] = ()) -> Iterator[Verdict]:
    """Yield a verdict on every picture in and below `folder`, sorted by file name.

    Captions come from the folder's `metadata.jsonl`, if there is one. Of duplicates only the first that
    passes the other limits stays.

    Raises:
        BadData: the folder has no pictures, or its metadata.jsonl cannot be read.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise BadData(f"no pictures in {str(folder)!r}: name another folder")
    captions, all_scorers = _captions(folder), tuple(scorers)
    kept: dict[str, int] = {}
    for file in files:
        name = file.relative_to(folder).as_posix()
        verdict = _alone(name, file, captions.get(name, ""), limits, all_scorers)
        if verdict.keep:
            verdict = _beside(verdict, kept, limits.twin)
        if verdict.keep:
            kept[name] = int(verdict.hash, 16)
        yield verdict


def write_manifest(verdicts: Iterable[Verdict], path: Path) -> tuple[int, int]:
    """Write the manifest atomically, one JSON object on each line.

    Returns (pictures that stay, all pictures).
    """
    stay = count = 0
    with atomic_write(path) as draft, draft.open("w", encoding="utf-8") as out:
        for verdict in verdicts:
            stay, count = stay + verdict.keep, count + 1
            out.write(json.dumps(asdict(verdict), ensure_ascii=False) + "\n")
    return stay, count


def reason_against(scores: Mapping[str, float], limits: Limits) -> str:
    """The first limit that these scores break, as a reason to drop the picture; "" if it stays.

    A score that a limit needs and that is missing is a reason too.
    """
    least = ("side", "sharp", "match", "aesthetic")
    for name, sign in (*((name, 1) for name in least), ("unsafe", -1)):
        limit = getattr(limits, name)
        if limit is None:
            continue
        if name not in scores:
            return f"{name} is not known"
        if not sign * scores[name] >= sign * limit:  # NaN breaks every limit
            return f"{name} {scores[name]:.4g} is {'below' if sign > 0 else 'above'} {limit:g}"
    return ""


def perceptual_hash(image: Image.Image) -> int:
    """A perceptual hash of 64 bits that hardly changes when a picture is resized or saved again.

    Bit k says whether one of the 64 lowest frequencies of the cosine transform is above their median (pHash,
    Zauner 2010).
    """
    grey = np.asarray(_grey(image).resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
    low = fft.dctn(grey, norm="ortho")[:8, :8].flatten()
    return int("".join("1" if value > np.median(low[1:]) else "0" for value in low), 2)


def sharpness(image: Image.Image) -> float:
    """The variance of the Laplacian of the grey picture: small for a blurred picture."""
    grey: NDArray[np.float64] = np.asarray(_grey(image), dtype=np.float64)
    return float(ndimage.laplace(grey).var())


def _alone(name: str, file: Path, caption: str, limits: Limits, scorers: tuple[ImageScores, ...]) -> Verdict:
    try:
        image = read_source(file).image
    except BadPicture as error:
        return Verdict(name, keep=False, reason=str(error), scores={})
    scores = {"side": float(min(image.size)), "sharp": sharpness(image)}
    for scorer in scorers:
        scores |= scorer(image, caption)
    scores = {what: round(value, 6) for what, value in scores.items()}
    reason = reason_against(scores, limits)
    return Verdict(name, not reason, reason or "fine", scores, f"{perceptual_hash(image):016x}")


def _beside(verdict: Verdict, kept: Mapping[str, int], twin: int) -> Verdict:
    mine = int(verdict.hash, 16)
    for other, theirs in kept.items():
        apart = (mine ^ theirs).bit_count()
        if apart <= twin:
            return replace(verdict, keep=False, reason=f"looks like {other} ({apart} bits apart)")
    return verdict


def _captions(folder: Path) -> dict[str, str]:
    index = folder / "metadata.jsonl"
    rows: Iterable[dict[str, Any]] = read_rows(index) if index.is_file() else ()
    return {row["file_name"]: str(row.get("text", "")) for row in rows}


def _grey(image: Image.Image) -> Image.Image:
    """The picture over white in grey, so that the colour of transparent pixels does not count."""
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("L")
