"""The CLIP encoders of unCLIP, and arithmetic on their embeddings.

Section 3 of arXiv 2204.06125: variations, interpolations and text diffs use spherical interpolation between
embeddings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import CLIPVisionModel

from danqing.conditioning.grammar import Chunk, text_of
from danqing.conditioning.text import TextEncoder
from danqing.core.errors import BadWeights
from danqing.core.painter import Conditioning
from danqing.core.seeds import slerp
from danqing.families.clip import ClipScorer, ImageProcessor
from danqing.nets.placement import as_input, move, to_float32
from danqing.weights.pretrained import find_weights


@dataclass(frozen=True, eq=False)
class Space:
    """CLIP as an `Encoder`: tokens [1 l+1 d] are the states of l tokens and the text embedding, with a mask.

    text: the text encoder.
    text_projection: its pooled state -> an embedding.
    image_encoder: the image encoder; if None, input pictures are not supported.
    image_projection: its pooled state -> an embedding.
    processor: the preprocessing of the image encoder.
    unit: whether embeddings are normalised to length 1, as in the training of our models; Karlo's are not.
    """

    text: TextEncoder
    text_projection: nn.Linear
    image_encoder: CLIPVisionModel | None
    image_projection: nn.Linear | None
    processor: ImageProcessor
    unit: bool = True

    @classmethod
    def of(cls, scorer: ClipScorer, length: int) -> Space:
        """The space of a scorer's CLIP, for texts of `length` tokens.

        Raises:
            BadWeights: its text encoder supports fewer tokens.
        """
        model = scorer.model
        text = TextEncoder.of(scorer.tokenizer, model.text_model)
        if length > text.max_length:
            raise BadWeights(f"prior: reads {length} tokens of words, this CLIP gives {text.max_length}")
        return cls(
            text=replace(text, max_length=length),
            text_projection=model.text_projection,
            image_encoder=model.vision_model,
            image_projection=model.visual_projection,
            processor=scorer.processor,
        )

    @property
    def width(self) -> int:
        """The width of an embedding, d."""
        return int(self.text_projection.out_features)

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Move both encoders to `device` and let them compute in `dtype`; None is float32."""
        networks = (self.text.model, self.text_projection, self.image_encoder, self.image_projection)
        move(device, dtype, *networks)

    def __call__(self, words: str) -> Conditioning:
        """Encode one text, with the words that did not fit as `dropped`."""
        return replace(self.encode_texts([words]), dropped=self.text.tail(words))

    def encode_weighted(self, chunk: Chunk) -> Conditioning:
        """Encode a text with weights; they change the token states, but not the text embedding."""
        plain, states = self(text_of(chunk)), self.text.encode_weighted(chunk).tokens
        return replace(plain, tokens=torch.cat([states, plain.tokens[:, -1:]], dim=1))

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """Encode several texts, truncated to the length of the encoder: tokens [n l+1 d], mask [n l+1]."""
        length = self.text.max_length
        tokens = self.text.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        return self.encode_ids(tokens.input_ids)

    @torch.no_grad()
    def encode_ids(self, ids: Tensor) -> Conditioning:
        """Encode texts from token ids [n l]; the tokens after the first end token are masked."""
        ids = as_input(self.text_projection, ids)
        output = self.text.model(ids)
        whole = self.rescale(to_float32(self.text_projection(output.pooler_output)))
        ends = (ids == self.text.tokenizer.eos_token_id).cumsum(dim=1)
        mask = F.pad(ends, (1, -1)) == 0
        tokens = torch.cat([to_float32(output.last_hidden_state), whole[:, None]], dim=1)
        return Conditioning(tokens, F.pad(mask, (0, 1), value=True))

    @torch.no_grad()
    def image_embedding(self, pixels: Tensor) -> Tensor:
        """The embeddings [n d] of pictures [n c h w] in [-1, 1], with colour composited over white.

        Raises:
            BadWeights: there is no image encoder.
        """
        if self.image_encoder is None or self.image_projection is None:
            raise BadWeights("this model came without image_encoder, so it cannot look at a given picture")
        inputs = as_input(self.image_projection, self.processor(pixels[:, :3]))
        return self.rescale(to_float32(self.image_projection(self.image_encoder(inputs).pooler_output)))

    def rescale(self, z: Tensor) -> Tensor:
        """Embeddings [... d] normalised to length 1 if `unit`, else unchanged."""
        return F.normalize(z, dim=-1) if self.unit else z


def join_words_and_image(words: Conditioning, length: int) -> Conditioning:
    """Join several chunks of `length` tokens into one: each token is the mean of those not masked."""
    if words.tokens.shape[1] == length:
        return words
    n, every, width = words.tokens.shape
    tokens = words.tokens.view(n, every // length, length, width)
    mask = torch.ones(tokens.shape[:3], dtype=torch.bool, device=tokens.device)
    if words.mask is not None:
        mask = words.mask.view(n, -1, length)
    weights = mask[..., None].to(tokens)
    mean = (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return replace(words, tokens=mean, mask=mask.any(dim=1))


def mixture(embeddings: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Mix embeddings, each [n d], by weights that are not all 0, with repeated `slerp`."""
    total = 0.0
    mixed = embeddings[0]
    for z, weight in zip(embeddings, weights, strict=True):
        total += weight
        if weight:
            mixed = slerp(mixed, z, weight / total)
    return mixed


def text_diff(picture: Tensor, text: Tensor, before: Tensor, amount: float) -> Tensor:
    """Rotate an image embedding towards the difference of two text embeddings (text diff, section 3.3).

    It is slerp(picture, (text - before) / |text - before|, amount), with the norm of `picture`. If the texts
    are equal, the result is `picture`.

    picture, text, before: embeddings [n d].
    amount: in [0, 1].
    """
    way = text - before
    length = way.norm(dim=-1, keepdim=True)
    towards = way / length.clamp(min=1e-12) * picture.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-6, slerp(picture, towards, amount), picture)


def fingerprint(folder: Path) -> str:
    """The SHA-256 of the weights in a folder; a painter identifies its CLIP by it."""
    digest = hashlib.sha256()
    for file in find_weights(folder):
        digest.update(file.read_bytes())
    return digest.hexdigest()
