"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from danqing.core.errors import DanqingError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of `path`; on success it takes the place of `path` in one rename.

    A reader, a crash or a full disk never leaves half a file under the final name.

    Raises:
        DanqingError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        yield draft
        draft.chmod(0o666 & ~_umask())
        draft.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        draft.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Find out now, not after minutes of painting, that `path` cannot be written. Leaves nothing behind.

    Raises:
        DanqingError: naming the path and the reason.
    """
    missing: list[Path] = []
    try:
        missing += [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        _draft(path).unlink()
        with suppress(FileNotFoundError):
            path.stat()  # a name that is too long shows here
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


def _draft(path: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=".danqing-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    return Path(name)


def _cannot_write(path: Path, error: OSError) -> DanqingError:
    return DanqingError(f"cannot write {str(path)!r}: {error.strerror or error}; choose another place")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
