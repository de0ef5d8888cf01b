"""Name what pictures show: by the judge, by a ViT, or among anyone's own labels by CLIP."""

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

JUDGE, VIT = "judge", "vit"  # shipped models that name things


class Namer(Protocol):
    """Anything that knows names, and how likely each is."""

    @property
    def names(self) -> Sequence[str]:
        """What it can say."""
        ...

    def likely(self, pixels: Tensor) -> Tensor:
        """How likely each name is the right one for pictures [n 3 h w] in [-1, 1]: [n names], sums 1."""
        ...


@dataclass(frozen=True)
class ByJudge:
    """The shipped judge, a small residual network."""

    judge: Judge

    @property
    def names(self) -> Sequence[str]:
        """The things it has learned."""
        return self.judge.config.concepts

    def likely(self, pixels: Tensor) -> Tensor:
        """As `Namer.likely`."""
        return self.judge.predict(pad_to_square(pixels))[0].softmax(dim=-1)


@dataclass(frozen=True)
class ByLabels:
    """Whoever reads words, CLIP before all, among labels of the user's own (arXiv 2103.00020 section 3.1)."""

    classifier: ZeroShotClassifier
    names: Sequence[str]

    def likely(self, pixels: Tensor) -> Tensor:
        """As `Namer.likely`."""
        return self.classifier.classify(pixels, self.names)


@dataclass(frozen=True)
class Classification:
    """A picture's likeliest names with their probabilities, best first."""

    columns: ClassVar[tuple[str, ...]] = ("name", "likely")

    file: Path
    names: tuple[tuple[str, float], ...]

    def record(self) -> dict[str, Any]:
        """For a program: file, names."""
        names = [{"name": name, "likely": round(share, 4)} for name, share in self.names]
        return {"file": str(self.file), "names": names}

    def cells(self) -> list[tuple[str, ...]]:
        """For people, under `columns`."""
        return [(name, f"{share:.1%}") for name, share in self.names]


def open_namer(
    session: Session, model: str | None = None, labels: Sequence[str] = (), side: int | None = None
) -> Namer:
    """Who is to name: the judge, the shipped "vit" or a folder of one, or CLIP where labels are given.

    model: None is the judge, and the shipped CLIP for labels. side: at which resolution a ViT looks.

    Raises:
        BadWeights: the weights are not there or cannot be used.
        BadBrief: fewer than two different labels, or a side that does not suit.
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
    """A folder, or a shipped ViT by its name."""
    folder = Path(model).expanduser()
    return shipped_part(VIT) if model == VIT and not folder.exists() else folder


def classify_pictures(
    places: Iterable[ImageRef], namer: Namer, top: int = 5
) -> Iterator[Classification | UnreadableFile]:
    """The `top` likeliest names of every picture at `places`, files and folders; or why it cannot be read.

    Raises:
        BadBrief: no pictures there.
    """
    for each in read_pictures(pictures_in(places)):
        if isinstance(each, UnreadableFile):
            yield each
            continue
        file, picture = each
        likely = namer.likely(pixels_on_white(picture))[0].topk(min(top, len(namer.names)))
        pairs = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
        yield Classification(file, tuple((namer.names[k], share) for k, share in pairs))
