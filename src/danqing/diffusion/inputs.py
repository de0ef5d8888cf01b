"""Prepares the input pictures and the conditioning of a request before sampling."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from danqing.core.painter import Conditioning, InputImages
from danqing.core.seeds import slerp
from danqing.diffusion.vae import VAE


def state_of_images(images: InputImages, vae: VAE) -> Tensor | None:
    """The input picture as a state; several references are mixed by their weights with `slerp`.

    None where there is no input picture.
    """
    if not images.references:
        return None if images.image is None else vae.encode(images.image)
    mixed, total = torch.empty(0), 0.0
    for picture, weight in zip(images.references, images.weights, strict=True):
        if weight == 0:
            continue
        state = vae.encode(picture)
        total += weight
        mixed = slerp(mixed, state, weight / total) if len(mixed) else state
    return mixed


def with_sizes(
    encoded: Conditioning, size: tuple[int, ...], aesthetics: tuple[float, float] | None
) -> Conditioning:
    """`encoded` with the size conditioning of an uncropped picture of the size that is painted.

    size: height and width in pixels.
    aesthetics: see `DiffusionPainter`.
    """
    ends = (size, size) if aesthetics is None else tuple((score,) for score in aesthetics)
    positive, negative_sizes = (
        torch.tensor([[*size, 0, 0, *end]], dtype=torch.float, device=encoded.tokens.device) for end in ends
    )

    def resize(part: Conditioning) -> Conditioning:
        negative = None if part.negative is None else replace(part.negative, sizes=negative_sizes)
        return replace(part, sizes=positive, negative=negative)

    return encoded.each(resize)


def with_zero_negative(part: Conditioning) -> Conditioning:
    """One part of a conditioning, whose negative prompt is encoded as zeros."""
    if part.negative is None:
        return part
    tokens, pooled = part.negative.tokens, part.negative.pooled
    zeros = torch.zeros_like(tokens), None if pooled is None else torch.zeros_like(pooled)
    return replace(part, negative=replace(part.negative, tokens=zeros[0], pooled=zeros[1]))
