"""Frozen language models for painters that take any: our CLIP's text encoder, T5, BERT and similar ones.

A painter's folder records the text encoder of its training and the first values of its output for a fixed
text, because with another encoder the pictures would have nothing to do with the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertModel,
    CLIPTextModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)
from transformers.utils import logging

from danqing.conditioning.masked_text_encoder import MaskedEncoder
from danqing.core.errors import BadWeights, unknown
from danqing.weights.pretrained import find_weights, read_json
from danqing.weights.tensor_files import first_line

TEXT_ENCODERS: dict[str, type[PreTrainedModel]] = {
    "clip": CLIPTextModel,
    "clip_text_model": CLIPTextModel,
    "t5": T5EncoderModel,
    "bert": BertModel,
}
"""Maps model_type in a transformers config to the class that outputs its token states."""

_VOCABULARIES = ("tokenizer.json", "spiece.model", "vocab.txt", "vocab.json")
_PROBE, _NUMBERS, _NEAR = "a red cat", 8, 0.05  # half precision and other machines change the values by 0.01
_LONGEST = 77  # most tokens for an encoder without a limit of its own, as in DeepFloyd IF


@dataclass(frozen=True)
class TextEncoderRef:
    """The text encoder that a painter was trained with.

    place: its folder; None for the shipped CLIP.
    probe: the first values of its output for a fixed text.
    """

    place: str | None = None
    probe: tuple[float, ...] = ()

    @classmethod
    def of(cls, encoder: MaskedEncoder, place: Path | None = None) -> TextEncoderRef:
        """A reference to the encoder that was read from `place`."""
        return cls(None if place is None else str(place), _probe(encoder))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TextEncoderRef:
        """Read what `to_config` returned."""
        return cls(config.get("place"), tuple(float(number) for number in config.get("probe", ())))

    def to_config(self) -> dict[str, Any]:
        """Plain values for `config.json`."""
        return asdict(self)

    def open(self, shipped: Path) -> MaskedEncoder:
        """Read the encoder.

        shipped: the folder of our CLIP.

        Raises:
            BadWeights: it is missing, cannot be read, or differs from the one of the training.
        """
        folder = shipped if self.place is None else Path(self.place).expanduser()
        encoder = read_text_encoder(folder)
        probe = _probe(encoder)
        if self.probe and not _alike(probe, self.probe):
            raise BadWeights(
                f"the text encoder in {str(folder)!r} is another one than the painter learned with: "
                "put that one back, or train the painter anew"
            )
        return encoder


def read_text_encoder(folder: Path, words: Path | None = None) -> MaskedEncoder:
    """Read the text encoder in a transformers folder.

    It is in float32, since T5's states overflow half precision.

    words: the folder of its tokenizer; None for the same folder.

    Raises:
        BadWeights: the message names the folder and what is missing or wrong.
    """
    if not folder.is_dir():
        raise BadWeights(f"no text encoder in {str(folder)!r}: give the folder of its weights")
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind not in TEXT_ENCODERS:
        raise BadWeights(f"{str(folder)!r}: {unknown('text encoder', kind, TEXT_ENCODERS)}")
    tokenizer = _tokenizer(folder if words is None else words)
    find_weights(folder)
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        with _quiet():
            model, loading_info = TEXT_ENCODERS[kind].from_pretrained(folder, dtype=torch.float32, **options)
    except Exception as error:  # transformers passes on exceptions of many libraries
        raise BadWeights(f"{str(folder)!r} cannot be read ({first_line(error)}): fetch it again") from None
    lacking = sorted(name for name in loading_info["missing_keys"] if "pooler" not in name)
    if lacking:
        raise BadWeights(f"{str(folder)!r} lacks {lacking[0]}: fetch the whole folder again")
    return masked_encoder_of(tokenizer, model)


def masked_encoder_of(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> MaskedEncoder:
    """An encoder whose length is the largest that both tokenizer and model allow."""
    bound = getattr(model.config, "max_position_embeddings", None) or _LONGEST
    longest = min(tokenizer.model_max_length, bound, _LONGEST)
    return MaskedEncoder(tokenizer, model.eval().requires_grad_(False), longest)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise BadWeights(
            f"no {' or '.join(_VOCABULARIES[:2])} in {str(folder)!r}: the words of a text encoder are in its "
            "sentencepiece file, fetch that too"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise BadWeights(
            f"the words of {str(folder)!r} cannot be read ({first_line(error)}): fetch them again"
        ) from None
    return tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress transformers' report about unused tensors, such as the other half of CLIP."""
    loud, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(loud)
        if bars:
            logging.enable_progress_bar()


def _probe(encoder: MaskedEncoder) -> tuple[float, ...]:
    last = encoder(_PROBE).tokens[0, 1, :_NUMBERS]  # of the first word
    return tuple(round(float(number), 3) for number in last)


def _alike(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return len(one) == len(two) and all(abs(a - b) < _NEAR for a, b in zip(one, two, strict=True))
