"""The gallery: picture files, and a database row for each, which are kept consistent.

A file is written beside its final path, flushed and renamed; then one transaction adds the row and checks
that the job still belongs to the worker. What a crash leaves between these steps is removed by the sweep at
the next start. Deleting runs the other way round: first the row, then the file.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from danqing.core.picture import Picture
from danqing.core.source_image import picture_id
from danqing.studio.database import Database
from danqing.studio.errors import Conflict, NotThere
from danqing.studio.events import add_event
from danqing.studio.files import replace_durably
from danqing.studio.ids import is_id, new_id
from danqing.studio.jobs import Claim, row_of_claim
from danqing.studio.tables import PictureRow
from danqing.studio.vectors import Vector, to_bytes
from danqing.studio.words import forget_words, index_words

THUMBNAIL = 384  # length of the longer side in pixels
SIDES = (128, THUMBNAIL, 768)
TREE_MAX = 2000  # most pictures of one tree that are shown


@dataclass(frozen=True)
class NewPicture:
    """A picture that a job has finished.

    index: its index in the job, from 0.
    picture: the picture.
    write: a function that writes its file to a path.
    format: png, jpg or webp.
    sources: ids of the pictures and uploads that it was made from.
    vector: its CLIP embedding; None if there is no CLIP.
    """

    index: int
    picture: Picture
    write: Callable[[Path], object]
    format: str = "png"
    sources: Sequence[str] = field(default_factory=list)
    vector: Vector | None = None


@dataclass(frozen=True)
class NewFile:
    """A picture that was not made by a job.

    path: its file.
    image: its pixels, upright, in sRGB.
    format: png, jpg or webp.
    created: seconds since 1970.
    model: name of the model; "" if unknown.
    brief: what is known of its request, by the field names of `Brief`.
    info: all other metadata.
    vector: its CLIP embedding; None if there is no CLIP.
    """

    path: Path
    image: Image.Image
    format: str
    created: float
    model: str = ""
    brief: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    vector: Vector | None = None


class Gallery:
    """The pictures in a folder and a database. An owner sees no pictures of others."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database, self.folder = database, folder

    def add(self, claim: Claim, new: NewPicture) -> str | None:
        """Add a picture of a job.

        Returns its id, or None if an earlier attempt at the job has added it already.

        Raises:
            LostClaim: the job belongs to another worker now.
            StorageFull: the disk is full.
        """
        picture, name, now = new.picture, new_id(), time.time()
        row = PictureRow(
            id=name,
            owner=claim.owner,
            job=claim.job,
            index=new.index,
            app=picture.info.app if claim.app not in ("imagine", "lineage") else claim.app,
            model=picture.brief.model,
            prompt=picture.info.chosen or picture.brief.prompt,
            seed=picture.brief.seeds[0],
            format=new.format,
            file=_file_name(name, now, new.format),
            created=now,
            sources=list(new.sources),
            brief=picture.brief.model_dump(mode="json"),
            info=picture.info.model_dump(mode="json", exclude={"unread"}),
            vector=None if new.vector is None else to_bytes(new.vector),
        )
        self._write(row, picture.image, new.write)
        try:
            self._commit(row, lambda session: row_of_claim(session, claim))
        except IntegrityError:  # there is a picture of the same job and index
            return None
        return name

    def add_file(self, owner: str, new: NewFile) -> str:
        """Add a picture file that no job made; its bytes stay. Returns its id. Raises StorageFull."""
        name = new_id(new.created)
        row = PictureRow(
            id=name,
            owner=owner,
            job=None,
            index=0,
            app="import",
            model=new.model,
            prompt=str(new.brief.get("prompt", "")),
            seed=new.brief.get("seed"),
            format=new.format,
            file=_file_name(name, new.created, new.format),
            created=new.created,
            sources=[],
            brief=new.brief,
            info=new.info,
            vector=None if new.vector is None else to_bytes(new.vector),
        )
        self._write(row, new.image, lambda draft: shutil.copyfile(new.path, draft))
        self._commit(row, lambda _: None)
        return name

    def _write(self, row: PictureRow, image: Image.Image, write: Callable[[Path], object]) -> None:
        """Write a picture's file and thumbnail, and set the fields of the row that follow from them."""
        path = self.path(row.file)
        with replace_durably(path) as draft:
            write(draft)
        write_thumbnail(image, self._thumbnail(row.id, THUMBNAIL), THUMBNAIL)
        row.width, row.height = image.size
        row.size, row.pixels = path.stat().st_size, picture_id(image)

    def _commit(self, row: PictureRow, check: Callable[[Session], object]) -> None:
        """Add a row whose files exist, unless `check` raises; in that case remove the files."""
        try:
            with self._database.write() as session:
                check(session)
                _set_family(session, row, row.info.get("parent"))
                session.add(row)
                session.flush()
                index_words(session, row.number, _words(row))
                add_event(session, row.owner, "picture", row.id, row.job)
        except BaseException:
            self._unlink(row.file, row.id)
            raise

    def get(self, owner: str, picture: str) -> PictureRow:
        """A picture of an owner. Raises NotThere."""
        with self._database.read() as session:
            return _picture_of(session, owner, picture)

    def by_pixels(self, owner: str, pixels: str) -> str | None:
        """The id of the picture with these pixels; None if there is none."""
        with self._database.read() as session:
            return _by_pixels(session, owner, pixels)

    def children(self, pictures: Sequence[str]) -> dict[str, int]:
        """The number of pictures that were made from each of `pictures`."""
        query = select(PictureRow.parent, func.count()).where(PictureRow.parent.in_(pictures))
        query = query.where(PictureRow.trashed.is_(None)).group_by(PictureRow.parent)
        with self._database.read() as session:
            return {str(parent): count for parent, count in session.execute(query).all()}

    def of_jobs(self, jobs: Sequence[str]) -> dict[str, list[str]]:
        """The ids of the pictures of each job, in order."""
        query = select(PictureRow.job, PictureRow.id).where(PictureRow.job.in_(jobs))
        ids: dict[str, list[str]] = {job: [] for job in jobs}
        with self._database.read() as session:
            for job, picture in session.execute(query.order_by(PictureRow.index)).all():
                ids[str(job)].append(picture)
        return ids

    def tree(self, owner: str, picture: str) -> Sequence[PictureRow]:
        """All pictures with the same root, parents before children. Raises NotThere."""
        with self._database.read() as session:
            root = _picture_of(session, owner, picture).root
            query = select(PictureRow).where(PictureRow.root == root, PictureRow.owner == owner)
            return session.scalars(query.order_by(PictureRow.number).limit(TREE_MAX)).all()

    def change(self, owner: str, picture: str, *, star: bool | None, trashed: bool | None) -> PictureRow:
        """Change star and trash of a picture; None leaves them as they are. Raises NotThere."""
        with self._database.write() as session:
            row = _picture_of(session, owner, picture)
            if star is not None:
                row.star = star
            if trashed is not None:
                row.trashed = (row.trashed or time.time()) if trashed else None
            add_event(session, owner, "gallery", row.id, row.job)
        return row

    def delete(self, owner: str, picture: str) -> None:
        """Delete a picture that is in the trash. Raises NotThere; Conflict: it is not in the trash."""
        with self._database.write() as session:
            row = _picture_of(session, owner, picture)
            if row.trashed is None:
                raise Conflict(f"picture {picture} is not in the trash: move it there first")
            self._forget(session, row)
        self._unlink(row.file, row.id)

    def empty_trash(self, owner: str) -> int:
        """Delete all pictures in an owner's trash. Returns their number."""
        return self._delete(PictureRow.owner == owner, PictureRow.trashed.is_not(None))

    def delete_all(self, owner: str) -> int:
        """Delete all pictures of an owner. Returns their number."""
        return self._delete(PictureRow.owner == owner)

    def _delete(self, *which: ColumnElement[bool]) -> int:
        with self._database.write() as session:
            rows = session.scalars(select(PictureRow).where(*which)).all()
            for row in rows:
                self._forget(session, row)
        for row in rows:
            self._unlink(row.file, row.id)
        return len(rows)

    def path(self, file: str) -> Path:
        """The full path of a row's file."""
        return self.folder / "pictures" / file

    def thumbnail(self, row: PictureRow, side: int = THUMBNAIL) -> Path:
        """The thumbnail of a picture, made if it does not exist.

        Raises:
            NotThere: the picture's file is gone.
        """
        path = self._thumbnail(row.id, side)
        if not path.exists():
            try:
                with Image.open(self.path(row.file), formats=("PNG", "WEBP", "JPEG")) as image:
                    write_thumbnail(image, path, side)
            except FileNotFoundError:
                raise NotThere(f"the file of picture {row.id} is gone: restore it from a backup") from None
        return path

    def _thumbnail(self, picture: str, side: int) -> Path:
        return self.folder / "thumbnails" / picture[:6] / f"{picture}-{side}.webp"

    def _forget(self, session: Session, row: PictureRow) -> None:
        forget_words(session, row.number)
        add_event(session, row.owner, "gallery", row.id, row.job)
        session.delete(row)

    def _unlink(self, file: str, picture: str) -> None:
        self.path(file).unlink(missing_ok=True)
        for side in SIDES:
            self._thumbnail(picture, side).unlink(missing_ok=True)


def write_thumbnail(image: Image.Image, path: Path, side: int) -> None:
    """Write a small WebP of a picture, the longer side at most `side` pixels, with its transparency."""
    small = image.convert("RGBA" if image.has_transparency_data else "RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    with replace_durably(path) as draft:
        small.save(draft, "WEBP", quality=82, method=2)


def _picture_of(session: Session, owner: str, picture: str) -> PictureRow:
    row = session.scalar(select(PictureRow).where(PictureRow.id == picture))
    if row is None or row.owner != owner:
        raise NotThere(f"no picture {picture!r}: check the id")
    return row


def _by_pixels(session: Session, owner: str, pixels: str) -> str | None:
    query = select(PictureRow.id).where(PictureRow.owner == owner, PictureRow.pixels == pixels)
    return session.scalar(query.order_by(PictureRow.number.desc()).limit(1))


def _set_family(session: Session, row: PictureRow, parent_pixels: str | None) -> None:
    """Set the parent, found among the sources or by its pixels, and the root, which is the parent's root."""
    parent = next((source for source in row.sources if is_id(source)), None)
    if parent is None and parent_pixels is not None:
        parent = _by_pixels(session, row.owner, parent_pixels)
    query = select(PictureRow.root).where(PictureRow.id == parent, PictureRow.owner == row.owner)
    root = None if parent is None else session.scalar(query)
    row.parent, row.root = (None, row.id) if root is None else (parent, root)


def _file_name(picture: str, created: float, format_: str) -> str:
    return f"{time.strftime('%Y/%m', time.gmtime(created))}/{picture}.{format_}"


def _words(row: PictureRow) -> str:
    facts: list[Any] = [row.prompt, row.brief.get("style"), row.app, row.model, row.seed]
    return " ".join(str(fact) for fact in facts if fact)
