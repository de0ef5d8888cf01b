"""A frozen text encoder: text -> token states.

Stable Diffusion is conditioned on all token states of CLIP's text encoder (arXiv 2103.00020), including those
of pad tokens, without a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerBase

from danqing.conditioning.grammar import Chunk, text_of
from danqing.core.errors import BadBrief
from danqing.core.painter import Conditioning
from danqing.nets.placement import move, to_float32


@dataclass(frozen=True)
class TextEncoder:
    """Calls the text encoder for one text at a time.

    max_length: number of tokens of a text L, including begin and end tokens.
    clip_skip: how many of the last layers to skip; illustration models are often trained with 1.
    final_norm: whether the states of an earlier layer pass the final norm; not in Stable Diffusion XL.
    weighting: the method for weights of words, one of `WEIGHTINGS`.
    """

    tokenizer: PreTrainedTokenizerBase
    model: CLIPTextModel | CLIPTextModelWithProjection
    max_length: int
    clip_skip: int = 0
    final_norm: bool = True
    weighting: str = "a1111"

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        model: CLIPTextModel | CLIPTextModelWithProjection,
        clip_skip: int = 0,
        *,
        final_norm: bool = True,
    ) -> TextEncoder:
        """A text encoder whose `max_length` is the most that both tokenizer and model allow."""
        longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        return cls(tokenizer, model.eval(), longest, clip_skip, final_norm)

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Move the encoder to `device` and let it compute in `dtype`; None is float32."""
        move(device, dtype, self.model)

    @torch.no_grad()
    def __call__(self, words: str) -> Conditioning:
        """Token states [1 L D], with the words that did not fit reported as `dropped`.

        A model with a projection also gives the pooled text embedding [1 P].
        """
        ids = self.tokenizer(
            words,
            padding="max_length",
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        ).input_ids
        output = self._output(ids)
        pooled = getattr(output, "text_embeds", None)
        return Conditioning(
            tokens=self._states_of(output),
            pooled=None if pooled is None else to_float32(pooled),
            dropped=self.tail(words),
        )

    def encode_weighted(self, chunk: Chunk) -> Conditioning:
        """Token states [1 L D] of a chunk whose words have weights, by the method `weighting`."""
        words = self(text_of(chunk))
        return replace(words, tokens=WEIGHTINGS[self.weighting](self, chunk, words.tokens))

    def weights(self, chunk: Chunk) -> Tensor:
        """The weight of each token [1 L]; 1 for begin, end and pad tokens."""
        return torch.tensor([[1.0 if k is None else chunk[k].weight for k in self.spans(chunk)]])

    def spans(self, chunk: Chunk) -> list[int | None]:
        """For each of the L tokens the span in which it begins; None for begin, end and pad tokens."""
        of_character = [k for k, span in enumerate(chunk) for _ in span.text]
        places = self.token_places(text_of(chunk))
        return [None if place is None else of_character[place[0]] for place in places]

    def token_places(self, text: str) -> list[tuple[int, int] | None]:
        """Start and end in `text` of each of the L tokens; None for begin, end and pad tokens."""
        tokens = self.tokenizer(
            text,
            padding="max_length",
            truncation=True,
            max_length=self.max_length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        pairs = zip(tokens.offset_mapping, tokens.special_tokens_mask, strict=True)
        return [None if special else place for place, special in pairs]

    @torch.no_grad()
    def states_without(self, chunk: Chunk, k: int) -> Tensor:
        """Token states [1 L D] of a chunk, computed with span k masked."""
        tokens = self.tokenizer(
            text_of(chunk),
            padding="max_length",
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        )
        mask = torch.tensor([[span != k for span in self.spans(chunk)]])
        return self._states_of(self._output(tokens.input_ids, mask))

    def states(self, ids: Tensor) -> Tensor:
        """Ids [n L] -> normalised states [n L D] of the last layer, or of the one `clip_skip` before it."""
        return self._states_of(self._output(ids))

    def _output(self, ids: Tensor, mask: Tensor | None = None) -> Any:
        device = self.model.device
        return self.model(
            input_ids=ids.to(device),
            attention_mask=None if mask is None else mask.to(device),
            output_hidden_states=self.clip_skip > 0,
        )

    def _states_of(self, output: Any) -> Tensor:
        if not self.clip_skip:
            return to_float32(output.last_hidden_state)
        states = output.hidden_states[-(self.clip_skip + 1)]
        return to_float32(self.model.final_layer_norm(states) if self.final_norm else states)

    def tail(self, words: str) -> str:
        """The end of `words` that does not fit into `max_length` tokens; empty if all of it fits."""
        return text_beyond(self.tokenizer, words, self.max_length)


@dataclass(frozen=True)
class TextEncoderPair:
    """The two text encoders of Stable Diffusion XL (arXiv 2307.01952 section 2.1).

    Token states of the penultimate layer of each are concatenated along the width. The projection of the
    second encoder gives the pooled text embedding.
    """

    first: TextEncoder
    second: TextEncoder

    @classmethod
    def of(
        cls,
        first: tuple[PreTrainedTokenizerBase, CLIPTextModel],
        second: tuple[PreTrainedTokenizerBase, CLIPTextModelWithProjection],
    ) -> TextEncoderPair:
        """The pair, from two tokenizers and their text encoders."""
        return cls(*(TextEncoder.of(*pair, clip_skip=1, final_norm=False) for pair in (first, second)))

    def __call__(self, words: str) -> Conditioning:
        """Token states [1 L D1+D2] and the pooled text embedding [1 P]."""
        return _side_by_side(self.first(words), self.second(words))

    def encode_weighted(self, chunk: Chunk) -> Conditioning:
        """As a call, for a chunk with weights; they do not change the pooled text embedding."""
        return _side_by_side(self.first.encode_weighted(chunk), self.second.encode_weighted(chunk))


def _side_by_side(first: Conditioning, second: Conditioning) -> Conditioning:
    return replace(second, tokens=torch.cat([first.tokens, second.tokens], dim=-1), dropped=first.dropped)


def text_beyond(tokenizer: PreTrainedTokenizerBase, words: str, length: int) -> str:
    """The end of `words` that does not fit into `length` tokens, including begin and end tokens.

    Empty if all of it fits.
    """
    room = length - tokenizer.num_special_tokens_to_add()
    # not verbose: the tokenizer would warn of a long text, which we report ourselves
    tokens = tokenizer(words, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    starts = [start for start, _ in tokens.offset_mapping[room:]]
    return words[starts[0] :] if starts else ""


def _as_a1111(encoder: TextEncoder, chunk: Chunk, states: Tensor) -> Tensor:
    """Multiply each state by the weight of its word, then scale all states by one factor.

    A1111 restores the mean of all numbers. We restore the mean norm of a state: after a layer norm that
    centres, the mean is zero, and a quotient of means is meaningless.
    """
    return weigh_states(states, encoder.weights(chunk).to(states))


def _as_comfy(encoder: TextEncoder, chunk: Chunk, states: Tensor) -> Tensor:
    """Extrapolate each state from that of the empty text: empty + weight * (state - empty)."""
    empty = encoder("").tokens
    return empty + (states - empty) * encoder.weights(chunk).to(states)[..., None]


def _as_compel(encoder: TextEncoder, chunk: Chunk, states: Tensor) -> Tensor:
    """As `_as_comfy` for weights of 1 or more; a lower one mixes in the states with that span masked.

    At weight 0 the states with the span masked replace the others.
    """
    mixed, total = _as_comfy(encoder, chunk, states), 1.0
    for k, span in enumerate(chunk):
        if span.weight < 1:
            share = math.tan((1 - max(span.weight, 1e-5)) * math.pi / 2)
            mixed = mixed + share * _as_comfy(encoder, chunk, encoder.states_without(chunk, k))
            total += share
    return mixed / total


WEIGHTINGS: dict[str, Callable[[TextEncoder, Chunk, Tensor], Tensor]] = {
    "a1111": _as_a1111,
    "comfy": _as_comfy,
    "compel": _as_compel,
}
"""Program whose method it is -> function of (encoder, chunk, its states [1 L D]) giving weighted states."""


def weigh_as(encoder: Any, weighting: str) -> Any:
    """The encoder with the method `weighting`, one of `WEIGHTINGS`, for weights of words.

    Raises:
        BadBrief: the encoder supports only "a1111", and another method is chosen.
    """
    if isinstance(encoder, TextEncoderPair):
        parts = (replace(part, weighting=weighting) for part in (encoder.first, encoder.second))
        return TextEncoderPair(*parts)
    if isinstance(encoder, TextEncoder):
        return replace(encoder, weighting=weighting)
    if weighting != "a1111":
        raise BadBrief(f"this model does not weigh words as {weighting}: leave weighting out")
    return encoder


def weigh_states(states: Tensor, weights: Tensor) -> Tensor:
    """States [n l d] times weights [n l], then scaled so that the mean norm of a state stays the same."""
    heavier = states * weights[..., None]
    before, after = (each.norm(dim=-1).mean((-1,), keepdim=True)[..., None] for each in (states, heavier))
    return torch.where(after > 0, heavier * (before / after), heavier)
