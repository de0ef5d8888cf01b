"""An encoder that gives token ids, for networks with token embeddings of their own."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from danqing.conditioning.text import text_beyond
from danqing.core.painter import Conditioning


@dataclass(frozen=True)
class TokenIds:
    """An `Encoder` to token ids: tokens [1 length 1], and a mask [1 length] that is False for padding.

    Ids are whole numbers in float32, which is exact up to 2^24.

    length: number of tokens, including begin and end tokens.
    """

    tokenizer: PreTrainedTokenizerBase
    length: int

    def __call__(self, words: str) -> Conditioning:
        """The ids of a text, with the words that did not fit reported as `dropped`."""
        read = self.tokenizer(
            words,
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        )
        ids, mask = read["input_ids"], read["attention_mask"].bool()
        return Conditioning(
            ids[..., None].float(), mask, dropped=text_beyond(self.tokenizer, words, self.length)
        )
