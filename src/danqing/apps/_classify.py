"""Classifies pictures: by the judge, by a ViT, or by CLIP with labels of the user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from danqing.apps._image_files import UnreadableFile, pictures_in, read_pictures
from danqing.apps._session import Session
from danqing.apps._zero_shot import ZeroShotClassifier, pixels_on_white
from danqing.core.errors import BadBrief
from danqing.core.image_ref import ImageRef
from danqing.core.images import pad_to_square
from danqing.families.vit import read_classifier
from danqing.nets.judge import Judge
from danqing.weights.shipped import shipped_part

JUDGE, VIT = "judge", "vit"  # shipped classifiers


class Namer(Protocol):
    """A classifier with class names."""

    @property
    def names(self) -> Sequence[str]:
        """The class names."""
        ...

    def likely(self, pixels: Tensor) -> Tensor:
        """Pictures [n 3 h w] in [-1, 1] -> probabilities [n names]; rows sum to 1."""
        ...


@dataclass(frozen=True)
class ByJudge:
    """The shipped judge, a small residual network."""

    judge: Judge

    @property
    def names(self) -> Sequence[str]:
        """The concepts of the judge."""
        return self.judge.config.concepts

    def likely(self, pixels: Tensor) -> Tensor:
        """As `Namer.likely`."""
        return self.judge.predict(pad_to_square(pixels))[0].softmax(dim=-1)


@dataclass(frozen=True)
class ByLabels:
    """A zero-shot classifier, usually CLIP, with labels of the user (arXiv 2103.00020 section 3.1)."""

    classifier: ZeroShotClassifier
    names: Sequence[str]

    def likely(self, pixels: Tensor) -> Tensor:
        """As `Namer.likely`."""
        return self.classifier.classify(pixels, self.names)


@dataclass(frozen=True)
class Classification:
    """The most likely names of a picture with their probabilities, best first."""

    columns: ClassVar[tuple[str, ...]] = ("name", "likely")

    file: Path
    names: tuple[tuple[str, float], ...]

    def record(self) -> dict[str, Any]:
        """A JSON record with file and names."""
        names = [{"name": name, "likely": round(share, 4)} for name, share in self.names]
        return {"file": str(self.file), "names": names}

    def cells(self) -> list[tuple[str, ...]]:
        """The cells of its row in a table with the header `columns`."""
        return [(name, f"{share:.1%}") for name, share in self.names]


def open_namer(
    session: Session, model: str | None = None, labels: Sequence[str] = (), side: int | None = None
) -> Namer:
    """Open the judge, the shipped "vit", a ViT of a folder, or CLIP if there are labels.

    model: name or folder; None is the judge, or the shipped CLIP for labels.
    side: side of a ViT's input in pixels; None is its own.

    Raises:
        BadWeights: the weights are missing or cannot be used.
        BadBrief: there are fewer than two different labels, or the side does not fit the ViT.
    """
    if labels:
        if len(set(labels)) < 2:
            raise BadBrief(f"labels {labels[0]!r}: give two or more different ones, separated by commas")
        if side is not None:
            raise BadBrief("side is for a ViT: leave it out with labels")
        return ByLabels(session.classifier(model), tuple(dict.fromkeys(labels)))
    if model in (None, JUDGE):
        if side is not None:
            raise BadBrief("side is for a ViT: give one with --model vit")
        return ByJudge(Judge.load(shipped_part(JUDGE)))
    return read_classifier(_place(str(model)), side)


def _place(model: str) -> Path:
    """The folder of a ViT, from a path or from the name of a shipped one."""
    folder = Path(model).expanduser()
    return shipped_part(VIT) if model == VIT and not folder.exists() else folder


def classify_pictures(
    places: Iterable[ImageRef], namer: Namer, top: int = 5
) -> Iterator[Classification | UnreadableFile]:
    """The `top` most likely names of every picture at `places` (files and folders), or its read error.

    Raises:
        BadBrief: there are no pictures.
    """
    for each in read_pictures(pictures_in(places)):
        if isinstance(each, UnreadableFile):
            yield each
            continue
        file, picture = each
        likely = namer.likely(pixels_on_white(picture))[0].topk(min(top, len(namer.names)))
        pairs = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
        yield Classification(file, tuple((namer.names[k], share) for k, share in pairs))
