"""Words for networks that know names only: which of the names a prompt says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.conditioning.grammar import Chunk
from danqing.core.painter import Conditioning


@dataclass(frozen=True)
class Names:
    """The names that a network was trained with: each entry a name and its synonyms by "/", such as "cat/猫".

    As an `Encoder` it turns words into a label of the network: tokens [1 1 k], 1 for each name in the words.
    """

    entries: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def __call__(self, words: str) -> Conditioning:
        """The names in `words`; all of them are reported as dropped when none is known."""
        label = self._label(words)
        return Conditioning(label[None, None], dropped="" if label.any() else words)

    def encode_weighted(self, chunk: Chunk) -> Conditioning:
        """Each name with the weight of its words."""
        labels = torch.stack([span.weight * self._label(span.text) for span in chunk]).amax(dim=0)
        text = "".join(span.text for span in chunk)
        return Conditioning(labels[None, None], dropped="" if labels.any() else text)

    def labels(self, names_of_pictures: Iterable[Iterable[str]]) -> Tensor:
        """The labels [n k] of n pictures; names that the network does not know are left out.

        names_of_pictures: for each picture the first names of its entries.
        """
        first = {entry.split("/")[0]: k for k, entry in enumerate(self.entries)}
        picked = [[first[name] for name in names if name in first] for names in names_of_pictures]
        labels = torch.zeros(len(picked), len(self.entries))
        for row, numbers in zip(labels, picked, strict=True):
            row[numbers] = 1
        return labels

    def _label(self, words: str) -> Tensor:
        """Longer names first, and no word twice: "red apple" does not say "apple"."""
        label, rest = torch.zeros(len(self.entries)), words.casefold()
        names = ((name, k) for k, entry in enumerate(self.entries) for name in entry.casefold().split("/"))
        for name, k in sorted(names, key=lambda pair: -len(pair[0])):
            rest, count = re.subn(_whole(name), " ", rest)
            if count:
                label[k] = 1
        return label


NO_NAMES = Names()


def label_of(words: Conditioning, k: int) -> Tensor:
    """The first k numbers of what `Names` encoded, [n k]; parts are mixed by their weights."""
    parts = words.parts
    mixed = sum(part.weights[:, None] * part.tokens[..., :k].amax(dim=1) for part in parts)
    total = sum(part.weights for part in parts)
    return torch.as_tensor(mixed) / torch.as_tensor(total)[:, None]


def _whole(name: str) -> str:
    """A pattern for a name: whole words, also in the plural; Chinese knows no spaces."""
    letters = re.escape(name)
    return rf"(?<![a-z0-9]){letters}(?:e?s)?(?![a-z0-9])" if name.isascii() else letters
