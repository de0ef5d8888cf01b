"""CLIP's vocabulary out of an installed open_clip package: its file is read, its code is not run."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

from transformers import CLIPTokenizer

from danqing.core.errors import BadWeights

_FILE = "bpe_simple_vocab_16e6.txt.gz"
_BYTES, _MARKS = 256, ("<|startoftext|>", "<|endoftext|>")
_WORDS = 49406  # of CLIP, without its two marks; the file's last merges are not used
_LENGTH = 77


def open_clip_tokenizer() -> CLIPTokenizer | None:
    """CLIP's tokenizer, or None if open_clip is not installed.

    The ids follow from the file (arXiv 2103.00020 section 2.4, whose code counts so): a byte inside a word,
    a byte that ends one, what each merge makes, the two marks.

    Raises:
        BadWeights: the package's file is damaged.
    """
    spec = find_spec("open_clip")
    path = Path(spec.origin or "").parent / _FILE if spec else None
    if path is None or not path.is_file():
        return None
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError, ValueError) as error:
        raise BadWeights(f"{str(path)!r} cannot be read ({error}): install open_clip_torch again") from None
    merges = [line for line in lines[1 : _WORDS - 2 * _BYTES + 1] if line]  # the first line is a title
    letters = _letters()
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(m.replace(" ", "") for m in merges),
        *_MARKS,
    ]
    vocabulary = {word: index for index, word in enumerate(words)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=_LENGTH)


def _letters() -> list[str]:
    """A visible letter for every byte: first those that are visible in Latin-1, then one from 256 up."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in visible] + [chr(_BYTES + k) for k in range(_BYTES - len(visible))]
