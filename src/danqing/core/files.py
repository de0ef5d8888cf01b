"""Writing files whole or not at all, and never over a file by accident."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from danqing.core.errors import DanqingError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of `path`; on success it takes the place of `path` in one rename.

    A reader, a crash or a full disk never leaves half a file under the final name. A file that was there
    stays until then, and its permissions are kept; where `path` is a symbolic link, the file that it
    points to is replaced.

    Raises:
        DanqingError: the folder cannot be written.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft(target)
    except (OSError, RuntimeError) as error:  # Python 3.11 and 3.12 raise RuntimeError for links in a circle
        raise _cannot_write(path, error) from None
    try:
        yield draft
        draft.chmod(_mode(target))
        draft.replace(target)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        draft.unlink(missing_ok=True)


def add_file(path: Path, write: Callable[[Path], None]) -> Path:
    """Write a new file whole, under the first of path, path-2, path-3, ... that does not exist.

    The name is claimed in one step of the file system, so two programs never get the same one.

    write: writes to the temporary file that it is given.

    Returns:
        The path it has now.

    Raises:
        DanqingError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _draft(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        write(draft)
        draft.chmod(0o666 & ~_umask())
        return next(name for name in _names(path) if _claim(name, draft))
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


def _names(path: Path) -> Iterator[Path]:
    """path, path-2, path-3, ..."""
    yield path
    for number in count(2):
        yield path.with_stem(f"{path.stem}-{number}")


def _claim(name: Path, draft: Path) -> bool:
    """Give the finished draft a name; False where it is taken."""
    try:
        name.hardlink_to(draft)
    except FileExistsError:
        return False
    except (OSError, NotImplementedError):  # a file system or a Python without hard links: FAT, Android
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        draft.replace(name)
    return True


def _mode(path: Path) -> int:
    """The permissions of a file that is there, or those of a new one."""
    with suppress(OSError):
        return path.stat().st_mode & 0o7777
    return 0o666 & ~_umask()


def _draft(path: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=".danqing-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    return Path(name)


def _cannot_write(path: Path, error: OSError | RuntimeError) -> DanqingError:
    reason = getattr(error, "strerror", None) or error
    return DanqingError(f"cannot write {str(path)!r}: {reason}; choose another place")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
