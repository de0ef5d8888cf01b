"""How unCLIP's decoder is conditioned on a CLIP embedding (arXiv 2204.06125 section 2.1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TextProjectionConfig:
    """The shape of a `TextProjection`, with the names of diffusers' `UnCLIPTextProjModel`.

    clip_embeddings_dim: width of CLIP's embeddings and token states.
    time_embed_dim: width of the UNet's time embedding.
    cross_attention_dim: width of the UNet's context.
    clip_extra_context_tokens: how many context tokens the image embedding becomes.
    """

    clip_embeddings_dim: int
    time_embed_dim: int
    cross_attention_dim: int
    clip_extra_context_tokens: int = 4


class TextProjection(nn.Module):
    """Projects image and text embeddings for a UNet: to its context and to its time embedding.

    It loads the weights of diffusers' `UnCLIPTextProjModel`. `learned_classifier_free_guidance_embeddings`
    [d] is the embedding of no picture.
    """

    def __init__(self, config: TextProjectionConfig) -> None:
        super().__init__()
        self.config = config
        clip, time, context = config.clip_embeddings_dim, config.time_embed_dim, config.cross_attention_dim
        self.learned_classifier_free_guidance_embeddings = nn.Parameter(torch.zeros(clip))
        self.embedding_proj = nn.Linear(clip, time)
        self.clip_image_embeddings_project_to_time_embeddings = nn.Linear(clip, time)
        self.clip_extra_context_tokens_proj = nn.Linear(clip, config.clip_extra_context_tokens * context)
        self.encoder_hidden_states_proj = nn.Linear(clip, context)
        self.text_encoder_hidden_states_norm = nn.LayerNorm(context)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TextProjection:
        """Build the module from the output of `to_config`, or from a config of diffusers."""
        fields = {key: value for key, value in config.items() if not key.startswith("_")}
        return cls(TextProjectionConfig(**fields))

    def to_config(self) -> dict[str, Any]:
        """The configuration as plain values, for `from_config`."""
        return {"_class_name": "UnCLIPTextProjModel", **asdict(self.config)}

    @property
    def nothing(self) -> Tensor:
        """The embedding [d] of no picture, for classifier-free guidance."""
        return self.learned_classifier_free_guidance_embeddings

    def forward(self, picture: Tensor, text: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [n d] of picture and text, and token states [n l d] -> context [n k+l c] and time [n t].

        The first k tokens of the context are those of the picture.
        """
        added = self.clip_image_embeddings_project_to_time_embeddings(picture) + self.embedding_proj(text)
        extra = self.clip_extra_context_tokens_proj(picture)
        extra = extra.unflatten(1, (-1, self.config.clip_extra_context_tokens)).transpose(1, 2)
        hidden_states = self.text_encoder_hidden_states_norm(self.encoder_hidden_states_proj(states))
        return torch.cat([extra, hidden_states], dim=1), added
