"""Registries of things that are chosen by name: the only global state of the project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from danqing.core.errors import BadWeights, DanqingError, unknown

if TYPE_CHECKING:  # these types import torch, which a list of names must not load
    from danqing.core.painter import Painter

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping that a decorator fills. An unknown name raises an error that lists the valid ones."""

    def __init__(self, kind: str, error: type[DanqingError]) -> None:
        self._kind, self._error = kind, error
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: register a function or class as `name`.

        Raises:
            ValueError: the name is taken.
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self._kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            DanqingError: the name is unknown; the message names the nearest match and all that exist. Its
                class is the `error` of this registry.
        """
        if name not in self._entries:
            raise self._error(unknown(self._kind, name, self._entries))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


FAMILIES: Registry[Callable[[Path], Painter]] = Registry("family", BadWeights)
"""Family name -> function that opens a folder or a file of its weights."""

family = FAMILIES.register
