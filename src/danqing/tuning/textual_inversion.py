"""Learned words: embeddings that the text encoder uses in place of `<name>` (Gal et al., arXiv 2208.01618).

While words are attached, the text encoder has a copy of its tokenizer with v further tokens for each word,
and an embedding layer with their rows after its own: the same ids and rows as diffusers'
`load_textual_inversion`. Afterwards both are the original objects again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import normalizers
from torch import Tensor, nn
from transformers import AddedToken, PreTrainedTokenizerBase

from danqing.conditioning.text import TextEncoder, TextEncoderPair
from danqing.core.errors import BadWeights
from danqing.diffusion.painter import DiffusionPainter

# private-use characters, which prompts do not contain: each stands for one embedding until it becomes an id
_PRIVATE = 0xF0000


@contextmanager
def attach_embeddings(
    painter: DiffusionPainter, words: Mapping[str, Tensor], words_2: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """A context in which the painter's prompts may use `words`: text such as `<my-cat>` -> embeddings [v d].

    words_2: the same for its second text encoder, if it has one.

    Raises:
        BadWeights: the painter has no such text encoder, or the embeddings have another width.
    """
    text = painter.text
    if not words:
        yield
        return
    if bool(words_2) != isinstance(text, TextEncoderPair):
        count = "two text encoders" if words_2 else "one text encoder"
        word = next(iter(words))
        raise BadWeights(f"the learned word {word!r} is for another model, of {count}: use another one")
    try:
        if isinstance(text, TextEncoderPair):
            with _reading(text.first, words) as first, _reading(text.second, words_2 or {}) as second:
                painter.text = TextEncoderPair(first, second)
                yield
        else:
            with _reading(text_encoder(painter), words) as painter.text:
                yield
    finally:
        painter.text = text


@contextmanager
def _reading(text: TextEncoder, words: Mapping[str, Tensor]) -> Iterator[TextEncoder]:
    """The same for one text encoder."""
    table: nn.Embedding | _Rows = text.model.get_input_embeddings()
    for word, vectors in words.items():
        _check_width(word, vectors, table)
    try:
        text.model.set_input_embeddings(_Rows(table, len(text.tokenizer), tuple(words.values())))
        yield replace(text, tokenizer=_extend(text.tokenizer, words))
    finally:
        text.model.set_input_embeddings(table)


def text_encoder(painter: DiffusionPainter) -> TextEncoder:
    """The painter's text encoder.

    Raises:
        BadWeights: the painter encodes prompts in another way.
    """
    if not isinstance(painter.text, TextEncoder):
        raise BadWeights(f"model {painter.card.name!r} cannot learn words: choose the method dreambooth")
    return painter.text


def first_vectors(painter: DiffusionPainter, kind: str, count: int) -> nn.Parameter:
    """Initial embeddings [count d]: those of the words in `kind`, the last one repeated."""
    text = text_encoder(painter)
    ids = text.tokenizer(kind, add_special_tokens=False).input_ids[:count]
    ids += ids[-1:] * (count - len(ids))
    rows: Tensor = text.model.get_input_embeddings().weight[ids]
    return nn.Parameter(rows.detach().float().clone())


class _Rows(nn.Module):
    """An embedding layer with further rows, for ids from `first` on."""

    def __init__(self, table: nn.Embedding | _Rows, first: int, learned: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.table: nn.Embedding | _Rows
        self.table, self.first = table, first
        self._learned = learned  # in a tuple, so that they are not registered as parameters of the encoder

    @property
    def weight(self) -> Tensor:
        """The original rows [tokens d]."""
        return self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids [n L] to rows [n L d]; rows of original ids are the same bits as before."""
        table: Tensor = self.table(ids.clamp(max=self.first - 1))
        learned = torch.cat([vectors.to(table) for vectors in self._learned])
        rows = F.embedding((ids - self.first).clamp(min=0), learned)
        return torch.where((ids >= self.first).unsqueeze(-1), rows, table)


def _extend(tokenizer: PreTrainedTokenizerBase, words: Mapping[str, Tensor]) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer with one token for each embedding, in the order of `words`."""
    extended = copy.deepcopy(tokenizer)
    backend = extended.backend_tokenizer
    table, steps = len(extended), [backend.normalizer] if backend.normalizer is not None else []
    for word, vectors in words.items():
        marks = [chr(_PRIVATE + table + k) for k in range(len(vectors))]
        extended.add_tokens([AddedToken(mark, normalized=True) for mark in marks])
        steps.append(normalizers.Replace(word.lower(), "".join(marks)))
        table += len(marks)
    backend.normalizer = normalizers.Sequence(steps)
    return extended


def _check_width(word: str, vectors: Tensor, table: nn.Embedding | _Rows) -> None:
    width = table.weight.shape[-1]
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise BadWeights(
            f"the learned word {word!r} is for another model: its vectors have shape {list(vectors.shape)}, "
            f"this model reads [any {width}]"
        )
