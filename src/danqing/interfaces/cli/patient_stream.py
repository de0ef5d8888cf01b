"""A standard output that ignores write errors (a full disk, a closed pipe), so that work continues."""

from __future__ import annotations

import io
from typing import Any


class PatientRaw(io.RawIOBase):
    """A raw stream that never raises: data that cannot be written is dropped, and the work is still saved.

    error: the first failure, for the exit code. A closed pipe is no failure, since its reader has read
        enough.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int | None:
        """Write all of `data`, or drop it."""
        try:
            written: int | None = self._raw.write(data)
            return written
        except BrokenPipeError:
            return len(data)
        except OSError as error:
            self.error = self.error or error
            return len(data)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(self._raw.isatty())

    def fileno(self) -> int:
        """The file descriptor of the stream inside."""
        return int(self._raw.fileno())


def patient_stream(stream: Any) -> tuple[Any, PatientRaw | None]:
    """The same text stream over `PatientRaw`; characters that its encoding lacks are shown as their codes."""
    if not isinstance(stream, io.TextIOWrapper):  # there is no stdout at all, or it belongs to a test
        return stream, None
    raw = getattr(stream.buffer, "raw", stream.buffer)
    patient_raw = PatientRaw(raw)
    text = io.TextIOWrapper(
        io.BufferedWriter(patient_raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
    return text, patient_raw
