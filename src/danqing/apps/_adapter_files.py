"""The adapters that a request may name. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class AdapterFiles(dict[str, Path]):
    """Name of an adapter -> its file.

    named_only: whether a request may use these names only, and no paths.
    """

    def __init__(self, files: Mapping[str, Path], *, named_only: bool = False) -> None:
        super().__init__(files)
        self.named_only = named_only
