"""Turns an app's output into a job's result, by its kind: pictures in the gallery, lines or rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from danqing.apps import App, AppInputs, Session, save_film
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback
from danqing.studio.clip_index import ClipIndex
from danqing.studio.gallery import Gallery, NewPicture
from danqing.studio.jobs import Claim

Result = dict[str, Any] | None


@dataclass(frozen=True)
class Work:
    """A claimed job with everything that it needs.

    meaning: computes CLIP embeddings of the pictures.
    finished: called after each picture with the number of pictures in the gallery.
    """

    claim: Claim
    app: App[Any, Any]
    inputs: AppInputs
    session: Session
    gallery: Gallery
    meaning: ClipIndex
    progress: ProgressCallback
    finished: Callable[[int], None]

    def run(self) -> Result:
        """Run the app. Raises what the app raises, LostClaim and StorageFull."""
        return _RESULTS[self.app.output](self)

    @property
    def sources(self) -> list[str]:
        """The ids of its input pictures."""
        return [ref.name for ref in self.inputs.image_refs()]

    def keep(self, new: NewPicture) -> None:
        """Add a picture to the gallery."""
        vector = self.meaning.of_image(new.picture.image)
        self.gallery.add(self.claim, replace(new, sources=self.sources, vector=vector))
        self.finished(new.index + 1)


def _pictures(work: Work) -> Result:
    for index, picture in enumerate(work.session.stream(work.app, work.inputs, work.progress)):
        work.keep(NewPicture(index, picture, _writer(picture)))
    return None


def _film(work: Work) -> Result:
    frames: list[Picture] = work.session.run(work.app, work.inputs, work.progress)
    fps = float(getattr(work.inputs, "fps", 12))
    info = frames[0].info.model_copy(update={"app": work.app.name, "inputs": work.inputs.metadata()})
    first = replace(frames[0], info=info)
    work.keep(NewPicture(0, first, lambda path: save_film(frames, path, fps), "webp"))
    return {"frames": len(frames)}


def _lineage(work: Work) -> Result:
    rows = []
    for index, one in enumerate(work.session.run(work.app, work.inputs, work.progress)):
        work.keep(NewPicture(index, one.picture, _writer(one.picture)))
        rows.append(
            {"model": one.card.name, "year": one.card.year, "score": one.score, "label": list(one.label)}
        )
    return {"rows": rows}


def _lines(work: Work) -> Result:
    return {"lines": work.session.run(work.app, work.inputs, work.progress)}


def _rows(work: Work) -> Result:
    return {
        "rows": [row.record() for row in _iterate(work.session.run(work.app, work.inputs, work.progress))]
    }


def _adapter(work: Work) -> Result:
    from danqing.tuning.adapter_files import read_adapter

    path: Path = work.session.run(work.app, work.inputs, work.progress)
    return {"adapter": {"name": path.stem, "trigger": read_adapter(path).trigger}}


def _iterate(rows: Any) -> Iterator[Any]:
    yield from rows


def _writer(picture: Picture) -> Callable[[Path], object]:
    return picture.save


_RESULTS: dict[str, Callable[[Work], Result]] = {
    "pictures": _pictures,
    "film": _film,
    "lineage": _lineage,
    "lines": _lines,
    "rows": _rows,
    "adapter": _adapter,
}
