"""All data of a studio, in one folder; the server and each worker open it separately."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import select

from danqing.core.image_ref import ImageLookup, ImageRef
from danqing.studio.accounts import Accounts
from danqing.studio.boards import Boards
from danqing.studio.browse import Browser
from danqing.studio.database import Database
from danqing.studio.errors import Conflict, NotThere
from danqing.studio.files import DRAFT
from danqing.studio.gallery import Gallery
from danqing.studio.ids import is_id
from danqing.studio.image_refs import StoredImage
from danqing.studio.inheritance import hand_over
from danqing.studio.jobs import Limits, Queue
from danqing.studio.tables import PictureRow
from danqing.studio.uploads import Uploads, is_upload_id


class Store:
    """The database and the files below `folder`: pictures, thumbnails, uploads, models, adapters, styles."""

    def __init__(self, folder: Path, limits: Limits = Limits()) -> None:  # noqa: B008  it is frozen
        self.folder = folder
        self.database = Database(folder / "studio.db")
        self.accounts = Accounts(self.database)
        self.queue = Queue(self.database, limits)
        self.gallery = Gallery(self.database, folder)
        self.uploads = Uploads(self.database, folder)
        self.browser = Browser(self.database)
        self.boards = Boards(self.database)

    @property
    def session_options(self) -> dict[str, Any]:
        """The options of `NamedSession` with which requests can name only what is in this folder."""
        places: dict[str, Any] = {name: self.folder / name for name in ("models", "adapters", "styles")}
        return places

    def image_lookup(self, owner: str) -> ImageLookup:
        """A function that finds a picture or an upload of `owner` by its id."""

        def lookup(text: str) -> ImageRef:
            try:
                if is_id(text):
                    return StoredImage(self.gallery.path(self.gallery.get(owner, text).file), text)
                if is_upload_id(text):
                    return StoredImage(self.uploads.path(owner, text), text)
            except NotThere as error:
                raise ValueError(str(error)) from None
            raise ValueError("name a picture by its id, after uploading it")

        return lookup

    def file_lock(self) -> FileLock:
        """The lock to hold while a file exists and its row does not, outside of a worker."""
        return FileLock(self.folder / "files.lock")

    def sweep(self, *, repair: bool = True) -> dict[str, int]:
        """Repair a folder after a crash: remove files without a row, mark rows without a file.

        It may only be called while no worker runs. Returns both numbers.

        repair: whether to change anything; False only counts.
        """
        with self.file_lock():
            return self._sweep(repair=repair)

    def _sweep(self, *, repair: bool) -> dict[str, int]:
        pictures, kept = self.folder / "pictures", set[Path]()
        changed = 0
        with self.database.write() as session:
            files = {path for path in pictures.rglob("*") if path.is_file()}
            for row in session.scalars(select(PictureRow)):
                path = self.gallery.path(row.file)
                kept.add(path)
                if row.missing != (path not in files):
                    row.missing = not row.missing if repair else row.missing
                    changed += 1
        ids = {path.stem for path in kept}
        lost = [path for path in files - kept if is_id(path.stem) or path.name.startswith(DRAFT)]
        lost += [p for p in (self.folder / "thumbnails").rglob("*.webp") if p.name[:26] not in ids]
        names = self.uploads.names()
        lost += [p for p in (self.folder / "uploads").glob("*") if p.name not in names and _is_ours(p)]
        for path in lost if repair else ():
            path.unlink(missing_ok=True)
        return {"removed": len(lost), "changed": changed}

    def remove_account(self, name: str, heir: str | None = None) -> list[str]:
        """Remove an account. Its jobs and pictures go to the account `heir`, or are deleted if that is None.

        Returns the ids of its jobs that were cancelled.

        Raises:
            NotThere: there is no such account or heir.
            Conflict: it is the last admin, or its own heir.
        """
        new_owner = None if heir is None else self.accounts.get(heir).id
        if new_owner == self.accounts.get(name).id:
            raise Conflict(f"{name!r} cannot inherit from itself: name another account")
        owner = self.accounts.remove(name)
        cancelled = self.queue.cancel_all(owner)
        if new_owner is None:
            self.gallery.delete_all(owner)
            self.boards.delete_all(owner)
            self.uploads.delete_all(owner)
        else:
            with self.database.write() as session:
                hand_over(session, owner, new_owner)
        return cancelled

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def _is_ours(path: Path) -> bool:
    return is_upload_id(path.stem) or path.name.startswith(DRAFT)
