"""Names for things that can be chosen: the only global state of the project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from danqing.core.errors import BadWeights, DanqingError, unknown

if TYPE_CHECKING:  # the painter's types need torch, which a mere list of names must not load
    from danqing.core.painter import Painter

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping that is filled by a decorator and answers an unknown name with one helpful line."""

    def __init__(self, kind: str, error: type[DanqingError]) -> None:
        self._kind, self._error = kind, error
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: the thing below is called `name`.

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
            DanqingError: of this registry's kind, naming the nearest match and all that exist.
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
"""Family name -> how to open a folder, or a file, of its weights."""

family = FAMILIES.register
