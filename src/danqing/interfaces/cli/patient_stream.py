"""A stdout that is full, or that nobody reads: work goes on all the same."""

from __future__ import annotations

import io
from typing import Any


class PatientRaw(io.RawIOBase):
    """A raw stream that never raises: what cannot be written is dropped, so that work goes on and is saved.

    error: the first failure, for the exit code; a closed pipe is none, as its reader has had enough.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int | None:
        """Write, or drop, all of `data`."""
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
        """Of the stream within."""
        return int(self._raw.fileno())


def patient_stream(stream: Any) -> tuple[Any, PatientRaw | None]:
    """The same text stream, over `PatientRaw`; a character that its encoding lacks is shown as its code."""
    if not isinstance(stream, io.TextIOWrapper):  # no stdout at all, or one of a test
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
