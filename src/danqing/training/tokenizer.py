"""Trains a byte-level BPE tokenizer like CLIP's for English and Chinese captions."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's pattern of words: contractions, runs of letters, single digits, runs of anything else
_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def train_tokenizer(captions: Iterable[str], merges: int = 3000, length: int = 48) -> CLIPTokenizer:
    """Train a tokenizer on captions.

    Every byte, inside and at the end of a word, is in the vocabulary, so no text is ever unknown; the end
    token has the highest id, because CLIP's text encoder pools at the highest id.

    merges: most merges to learn; there are fewer if the captions repeat too little.
    length: tokens per text.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = _learnt(captions, alphabet, merges)
    words = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *("".join(pair) for pair in pairs), START, END]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=pairs,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=length,
    )


def _learnt(captions: Iterable[str], alphabet: list[str], merges: int) -> list[tuple[str, str]]:
    """The learned merges in order. Text is cleaned and split as in CLIP's tokenizer.

    The trainer of `tokenizers` breaks ties by token id, and gives ids to word ends in the order of a hash
    map, which differs each time. Declared as special tokens they get fixed ids, so that training is
    reproducible.
    """
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=merges + 2 * len(alphabet),
        min_frequency=2,
        initial_alphabet=alphabet,
        special_tokens=[f"{byte}</w>" for byte in alphabet],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return [(first, second) for first, second in json.loads(tokenizer.to_str())["model"]["merges"]]
