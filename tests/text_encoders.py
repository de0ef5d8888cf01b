"""Tiny text encoders of random weights, with tokenizers that know letters or a few words."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPTextModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from danqing.conditioning.masked_text_encoder import MaskedEncoder
from danqing.families.stable_diffusion.painter import byte_tokenizer, text_config
from danqing.weights.text_encoders import masked_encoder_of

WORDS = ["cat", "red", "a", "blue", "dog", "apple", "style", "3d"]


def t5() -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """T5 with a vocabulary of some words and all letters."""
    letters = [(letter, -9.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789,.▁"]
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((f"▁{word}", -2.0) for word in WORDS),
        *letters,
    ]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=77)
    config = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0)
    return tokenizer, seeded(T5EncoderModel, config)


def bert() -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """BERT, as sentence encoders are."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = BertTokenizer(vocab={word: k for k, word in enumerate([*marks, *WORDS, ","])})
    config = BertConfig(
        vocab_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=24,
    )
    return tokenizer, seeded(BertModel, config)


def clip() -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The text encoder of CLIP that reads bytes."""
    tokenizer = byte_tokenizer(16)
    return tokenizer, seeded(CLIPTextModel, text_config("tiny", tokenizer))


TEXT_ENCODERS = {"t5": t5, "bert": bert, "clip": clip}


def seeded(kind: type[PreTrainedModel], config: object) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(config).eval()


def reader(name: str = "clip") -> MaskedEncoder:
    """A `MaskedEncoder`."""
    return masked_encoder_of(*TEXT_ENCODERS[name]())


def folder_of(name: str, folder: Path) -> Path:
    """The encoder as a folder of transformers."""
    tokenizer, model = TEXT_ENCODERS[name]()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
