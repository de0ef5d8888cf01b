"""Encodes a parsed prompt into the conditioning of a painter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Protocol, runtime_checkable

import torch

from danqing.conditioning.grammar import Chunk, Part, Prompt, is_weighted, text_of
from danqing.core.errors import BadBrief, shorten
from danqing.core.painter import Conditioning

Encoder = Callable[[str], Conditioning]
"""Plain text -> the conditioning of one picture, with tokens [1 l d]."""


@runtime_checkable
class WeightedEncoder(Protocol):
    """An `Encoder` that supports weights of words."""

    def encode_weighted(self, chunk: Chunk) -> Conditioning:
        """Encode a chunk with weights, for one picture."""
        ...


def encode(text: Encoder, prompt: Prompt, negative: Prompt, steps: int) -> Conditioning:
    """Encode a prompt and its negative prompt for a run of `steps` steps, for one picture.

    text: the text encoder. Equal texts are encoded once. A prompt without any syntax gives exactly the output
        of `text`.

    Raises:
        BadBrief: the encoder does not support weights, or the weights of the parts sum to 0 or less.
    """

    @cache
    def of_part(part: Part) -> Conditioning:
        return _part(text, part)

    def at(step: int) -> Conditioning:
        uncond = _whole(of_part, negative.at(step, steps))
        return replace(_whole(of_part, prompt.at(step, steps)), negative=uncond)

    starts = [0]
    for step in range(1, steps if prompt.is_scheduled or negative.is_scheduled else 1):
        if any(either.at(step, steps) != either.at(step - 1, steps) for either in (prompt, negative)):
            starts.append(step)
    first, *later = map(at, starts)
    dropped = _all_dropped(words.dropped for words in (first, *later))
    return replace(first, schedule=tuple(zip(starts[1:], later, strict=True)), dropped=dropped)


def _whole(of_part: Callable[[Part], Conditioning], prompt: Prompt) -> Conditioning:
    weights = prompt.weights
    encoded = [of_part(replace(part, weight=1.0)) for part in prompt.parts]
    if weights == (1.0,):
        return encoded[0]
    first, *others = (
        replace(part, weight=torch.tensor([weight], device=part.tokens.device))
        for part, weight in zip(encoded, weights, strict=True)
    )
    return replace(first, others=tuple(others), dropped=_all_dropped(part.dropped for part in encoded))


def _part(text: Encoder, part: Part) -> Conditioning:
    """The encoded chunks of a part, concatenated along the tokens [1 l d]."""
    encoded = [_chunk(text, chunk) for chunk in part.chunks]
    if len(encoded) == 1:
        return encoded[0]
    masks = [words.mask for words in encoded if words.mask is not None]
    return Conditioning(
        tokens=torch.cat([words.tokens for words in encoded], dim=1),
        mask=torch.cat(masks, dim=1) if masks else None,
        pooled=encoded[0].pooled,  # of the first chunk, as in A1111
        dropped=_all_dropped(words.dropped for words in encoded),
    )


def _chunk(text: Encoder, chunk: Chunk) -> Conditioning:
    if not is_weighted(chunk):
        return text(text_of(chunk))
    if not isinstance(text, WeightedEncoder):
        raise BadBrief(f"this model cannot weigh words: write {shorten(text_of(chunk))!r} without brackets")
    return text.encode_weighted(chunk)


def _all_dropped(dropped: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(words for words in dropped if words))
