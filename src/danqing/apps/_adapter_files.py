"""Which adapters a request may name. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class AdapterFiles(dict[str, Path]):
    """Adapters by name -> file. named_only: there are no others, so a path is none."""

    def __init__(self, files: Mapping[str, Path], *, named_only: bool = False) -> None:
        super().__init__(files)
        self.named_only = named_only
