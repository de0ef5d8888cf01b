"""CLIP: a picture tower and a text tower that meet in one space.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, arXiv
2103.00020.
Differs: small, and bilingual from the start: English and Chinese captions of the same picture are pulled
together too.
Licences: code Apache-2.0; the shipped weights were trained from scratch on openly licensed pictures (see
NOTICE).
"""

from __future__ import annotations

from typing import Any

from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

Config = dict[str, Any]

_TOWER_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_TOWER_STICKER = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
}

# GELU as in OpenCLIP, not the QuickGELU of OpenAI's weights
TEXT: dict[str, Config] = {
    "tiny": {**_TOWER_TINY, "max_position_embeddings": 16, "hidden_act": "gelu", "projection_dim": 32},
    "sticker": {**_TOWER_STICKER, "max_position_embeddings": 48, "hidden_act": "gelu", "projection_dim": 192},
}
VISION: dict[str, Config] = {
    "tiny": {**_TOWER_TINY, "image_size": 32, "patch_size": 8, "hidden_act": "gelu", "projection_dim": 32},
    "sticker": {
        **_TOWER_STICKER,
        "image_size": 128,
        "patch_size": 16,
        "hidden_act": "gelu",
        "projection_dim": 192,
    },
}


def build_clip(preset: str, tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP of random weights for the words of `tokenizer`."""
    special = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={**TEXT[preset], **special},
        vision_config=VISION[preset],
        projection_dim=TEXT[preset]["projection_dim"],
    )
    return CLIPModel(config)
