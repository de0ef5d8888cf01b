"""Writes a file completely or not at all, and never replaces a file by accident."""

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
    """Yield the path of a temporary file in the same folder; on success it is renamed to `path`.

    So a crash or a full disk never leaves half a file under the final name. An existing file stays until the
    rename, and its permissions are kept. Where `path` is a symbolic link, its target is replaced.

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
    """Write a new file under the first name of path, path-2, path-3, ... that does not exist.

    The name is taken by one atomic operation, so two programs never get the same one.

    write: writes the content to the path of a temporary file.

    Returns:
        The path of the new file.

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
    """Check that `path` can be written, before minutes of painting are lost. Creates no file.

    Raises:
        DanqingError: it cannot; the message names the path and the reason.
    """
    missing: list[Path] = []
    try:
        missing += [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        _draft(path).unlink()
        with suppress(FileNotFoundError):
            path.stat()  # raises for a name that is too long
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
    """Give the temporary file `draft` its name; False where another file has that name."""
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
    """The permissions of an existing file, or the default ones of a new file."""
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
