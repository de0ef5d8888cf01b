"""A frozen language model as a text encoder: it gives token states and a mask that is False for padding.

Imagen, arXiv 2205.11487 section 2.1: any large text encoder works; the paper uses T5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from danqing.conditioning.text import TextEncoder
from danqing.core.painter import Conditioning


@dataclass(frozen=True)
class MaskedEncoder(TextEncoder):
    """A text encoder whose token states each have zero mean and unit variance.

    States of padding are zero and masked; all tokens of an empty text are masked. The states of a text depend
    neither on its padding nor on the other texts of a batch.

    model: a model of transformers that returns `last_hidden_state`.
    """

    @torch.no_grad()
    def __call__(self, words: str) -> Conditioning:
        """Token states [1 L D] and mask [1 L], with the words that did not fit reported as `dropped`."""
        ids, mask = self.tokenize([words], self.max_length)
        return replace(self.encode_ids(ids, mask), dropped=self.tail(words))

    def tokenize(self, texts: Sequence[str], length: int | None = None) -> tuple[Tensor, Tensor]:
        """Ids int64 [n l] and a mask bool [n l], False for padding; l is `length`, or that of the longest."""
        tokens = self.tokenizer(
            list(texts),
            padding="max_length" if length else True,
            truncation=True,
            max_length=length or self.max_length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return tokens.input_ids, tokens.attention_mask.bool()

    def encode_ids(self, ids: Tensor, mask: Tensor) -> Conditioning:
        """Encode the output of `tokenize`, for n pictures. A text of special tokens only counts as empty."""
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        states = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        says = mask.sum(1, keepdim=True) > self.tokenizer.num_special_tokens_to_add()
        words = mask & says
        return Conditioning(F.layer_norm(states, states.shape[-1:]) * words[..., None], words)
