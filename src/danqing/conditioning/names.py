"""The encoder of networks that are conditioned on class names: it finds the names in a prompt."""

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
    """The k class names of a network. Each entry is a name and its synonyms, such as "cat/猫".

    As an `Encoder` it turns a prompt into a label: tokens [1 1 k], 1 for each name in the prompt, else 0.
    """

    entries: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def __call__(self, words: str) -> Conditioning:
        """The label of a prompt; where it has no known name, all of it is reported as `dropped`."""
        label = self._label(words)
        return Conditioning(label[None, None], dropped="" if label.any() else words)

    def encode_weighted(self, chunk: Chunk) -> Conditioning:
        """The label of a chunk; each name has the weight of its span in place of 1."""
        labels = torch.stack([span.weight * self._label(span.text) for span in chunk]).amax(dim=0)
        text = "".join(span.text for span in chunk)
        return Conditioning(labels[None, None], dropped="" if labels.any() else text)

    def labels(self, names_of_pictures: Iterable[Iterable[str]]) -> Tensor:
        """The labels [n k] of n pictures; unknown names are ignored.

        names_of_pictures: the names of each picture, each the first name of an entry.
        """
        first = {entry.split("/")[0]: k for k, entry in enumerate(self.entries)}
        picked = [[first[name] for name in names if name in first] for names in names_of_pictures]
        labels = torch.zeros(len(picked), len(self.entries))
        for row, numbers in zip(labels, picked, strict=True):
            row[numbers] = 1
        return labels

    def _label(self, words: str) -> Tensor:
        """The label [k] of a text. Longer names are found first, so "red apple" does not count as "apple"."""
        label, rest = torch.zeros(len(self.entries)), words.casefold()
        names = ((name, k) for k, entry in enumerate(self.entries) for name in entry.casefold().split("/"))
        for name, k in sorted(names, key=lambda pair: -len(pair[0])):
            rest, count = re.subn(_whole(name), " ", rest)
            if count:
                label[k] = 1
        return label


NO_NAMES = Names()


def label_of(words: Conditioning, k: int) -> Tensor:
    """The labels [n k] in a conditioning that `Names` encoded; parts are mixed by their weights."""
    parts = words.parts
    mixed = sum(part.weights[:, None] * part.tokens[..., :k].amax(dim=1) for part in parts)
    total = sum(part.weights for part in parts)
    return torch.as_tensor(mixed) / torch.as_tensor(total)[:, None]


def _whole(name: str) -> str:
    """The regex of a name: whole words, singular or plural; a Chinese name matches anywhere in a text."""
    letters = re.escape(name)
    return rf"(?<![a-z0-9]){letters}(?:e?s)?(?![a-z0-9])" if name.isascii() else letters
