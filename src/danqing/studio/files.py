"""Atomic and durable file writes: after a power cut a file is complete or absent."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from danqing.studio.errors import StorageFull
from danqing.studio.ids import new_id

DRAFT = ".draft-"
"""Prefix of the names of unfinished files; the sweep at the start removes them."""

FLOOR = 256 * 2**20
"""Bytes that must stay free on the disk; with less no new file is begun."""


@contextmanager
def replace_durably(path: Path) -> Iterator[Path]:
    """Yield a draft beside `path`; on success it is flushed to the disk and renamed to `path`.

    Raises:
        StorageFull: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{DRAFT}{new_id()}{path.suffix}")
    try:
        yield draft
        _flush(draft)
        draft.replace(path)
        if os.name == "posix":  # Windows cannot open a folder to flush it
            _flush(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the disk is full: make room, then ask again") from None
        raise
    finally:
        draft.unlink(missing_ok=True)


def check_space(folder: Path) -> None:
    """Raises StorageFull: the disk has less than `FLOOR` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < FLOOR:
        raise StorageFull(f"only {free // 2**20} MB are left on the disk: make room, then ask again")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
