"""CLIP's vocabulary, which is shipped with the package, because original single files do not contain it."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files

from transformers import CLIPTokenizer

_BYTES, _MARKS = 256, ("<|startoftext|>", "<|endoftext|>")
# size of CLIP's vocabulary without its two special tokens; the last merges of the file are not used
_WORDS = 49406
_LENGTH = 77


def clip_tokenizer(pad: str = _MARKS[1]) -> CLIPTokenizer:
    """The tokenizer of CLIP and OpenCLIP, 49408 tokens.

    The ids follow from the order in the file (arXiv 2103.00020 section 2.4, as its code counts): the bytes
    inside a word, the bytes that end one, the result of each merge, the two special tokens.

    pad: the token after the end of a text: the end token again for CLIP, "!" (id 0) for OpenCLIP.
    """
    merges = _merges()
    letters = _letters()
    ends = (f"{letter}</w>" for letter in letters)
    words = [*letters, *ends, *(first + second for first, second in merges), *_MARKS]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=_LENGTH, pad_token=pad)


@cache
def _merges() -> tuple[tuple[str, str], ...]:
    text = gzip.decompress((files("danqing.weights") / "vocabulary" / "clip.txt.gz").read_bytes()).decode()
    lines = text.split("\n")[1 : _WORDS - 2 * _BYTES + 1]  # the first line is a title
    pairs = (line.split(" ") for line in lines)
    return tuple((first, second) for first, second in pairs)


def _letters() -> list[str]:
    """A visible character for every byte: the visible ones of Latin-1 first, then those from 256 up."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in visible] + [chr(_BYTES + k) for k in range(_BYTES - len(visible))]
