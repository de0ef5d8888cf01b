"""Finds a token without a meaning for the text encoder, for a subject (arXiv 2208.12242 section 3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from danqing.core.errors import BadBrief

_SHORT = re.compile(r"([a-z]{1,3})</w>")
_VOWELS = set("aeiouy")
_SELDOM = "zqxjkvbpygfwmucldrhsnioate"  # English letters, the rarest first


def rare_token(tokenizer: PreTrainedTokenizerBase, avoid: Iterable[str] = ()) -> str:
    """A rare token of one to three letters that is not among the words of `avoid` (phrases are split).

    Byte pairs are merged in the order of their frequency, so a high id means a rare token. Tokens without a
    vowel come first, since they are hardly words. If there is no such token, the rarest single letter is
    taken.

    Raises:
        BadBrief: the tokenizer has none.
    """
    words = set(re.findall(r"[a-z]+", " ".join(avoid).lower()))
    candidates = {
        match[1]: index
        for token, index in tokenizer.get_vocab().items()
        if (match := _SHORT.fullmatch(token)) and match[1] not in words
    }
    for text in sorted(candidates, key=lambda text: _rarity(text, candidates[text]), reverse=True):
        if tokenizer(text, add_special_tokens=False).input_ids == [candidates[text]]:
            return text
    raise BadBrief("this model's tokenizer has no rare token: choose the method textual-inversion")


def _rarity(text: str, index: int) -> tuple[bool, int]:
    """Sort key: tokens without a vowel first, by id; then single letters; then possible words, by id."""
    if len(text) == 1:
        return False, 10**9 - _SELDOM.index(text)
    return not set(text) & _VOWELS, index
