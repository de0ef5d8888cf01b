"""Image prompts: an IP-Adapter and its image encoder (arXiv 2308.06721)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.painter import Conditioning, Painter
from danqing.families.stable_diffusion.control import (
    as_stable_diffusion,
    place_beside,
    times_between,
    with_denoiser,
)
from danqing.families.stable_diffusion.denoiser import ScheduledImagePrompt
from danqing.nets.ip_adapter import IPAdapter, layers_in
from danqing.nets.placement import as_input, to_float32
from danqing.weights.image_encoder import read_image_encoder
from danqing.weights.ip_adapter import read_ip_adapter

_LAYERS = {"style": "up_blocks.0.attentions.1", "layout": "down_blocks.2.attentions.1"}  # of XL's UNet


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """An image prompt with its IP-Adapter.

    adapter: the IP-Adapter.
    tokens: the tokens of the picture [1 k d].
    empty: the tokens of no picture [1 k d], for the negative prompt.
    strength: the factor of its attention output; 0 has no effect, 1 is the strength of its training.
    start, end: the prompt is active between these fractions of the steps, in [0, 1].
    layers: indices of the cross-attention layers that read it; None means all.
    """

    adapter: IPAdapter
    tokens: Tensor
    empty: Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    layers: frozenset[int] | None = None


def layers_for(painter: Painter, part: str) -> frozenset[int] | None:
    """The layers for the style or the layout of a picture (arXiv 2404.02733); None for all layers.

    Raises:
        BadBrief: the painter is not Stable Diffusion XL; for other models these layers are not known.
    """
    if part == "all":
        return None
    unet = as_stable_diffusion(painter).modules["unet"]
    if unet.config.addition_embed_type != "text_time":  # type: ignore[union-attr]
        raise BadBrief(
            f"{part} of an image prompt can be told apart in Stable Diffusion XL only, not in model "
            f"{painter.card.name!r}: leave {part}= out"
        )
    return layers_in(unet, _LAYERS[part])


def open_ip_adapter(place: Path, painter: Painter) -> IPAdapter:
    """Open an IP-Adapter from a file, on the device and in the dtype of the painter.

    Raises:
        BadBrief: the painter does not support IP-Adapters.
        BadWeights: the file is something else, or is for another model.
    """
    unet = as_stable_diffusion(painter).modules["unet"]
    adapter = read_ip_adapter(place, unet)
    place_beside(unet, adapter)
    return adapter


def open_image_encoder(place: Path, painter: Painter) -> CLIPVisionModelWithProjection:
    """Open an image encoder from a folder or file, on the device and in the dtype of the painter.

    Raises:
        BadBrief: the painter does not support image prompts.
        BadWeights: the file cannot be read.
    """
    encoder = read_image_encoder(place)
    place_beside(as_stable_diffusion(painter).modules["unet"], encoder)
    return encoder


@torch.no_grad()
def tokens_of(
    image: Image.Image, adapter: IPAdapter, encoder: CLIPVisionModelWithProjection
) -> tuple[Tensor, Tensor]:
    """The tokens [1 k d] of an RGB picture, and the tokens [1 k d] of no picture.

    No picture is an embedding of zeros; for an adapter that reads patches, it is a picture of zeros.
    """
    pixels = as_input(encoder, _pixels(image, int(encoder.config.image_size)))
    if adapter.reads_patches:
        both = [
            encoder(one, output_hidden_states=True).hidden_states[-2]
            for one in (pixels, torch.zeros_like(pixels))
        ]
    else:
        whole = encoder(pixels).image_embeds
        both = [whole, torch.zeros_like(whole)]
    tokens, empty = (to_float32(adapter.projection(one)) for one in both)
    return tokens, empty


def with_image_prompts(
    painter: Painter, prompts: Sequence[ImagePrompt], brief: ResolvedBrief, conditioning: Conditioning
) -> tuple[Painter, Conditioning]:
    """The painter with image prompts, and the conditioning of a brief with their tokens.

    Raises:
        BadBrief: the painter does not support image prompts.
    """
    if not prompts:
        return painter, conditioning
    plain = as_stable_diffusion(painter)
    levels = plain.levels(brief, conditioning.image is not None)
    at_work = [
        (
            prompt,
            ScheduledImagePrompt(
                prompt.adapter, prompt.tokens.shape[1], prompt.strength, times, prompt.layers
            ),
        )
        for prompt in prompts
        if prompt.strength and (times := times_between(prompt.start, prompt.end, levels)) is not None
    ]
    if not at_work:
        return painter, conditioning
    looks = tuple(look for _, look in at_work)
    networks = {f"ip_adapter_{k}": look.adapter for k, look in enumerate(looks)}
    tokens = torch.cat([prompt.tokens for prompt, _ in at_work], dim=1)
    empty = torch.cat([prompt.empty for prompt, _ in at_work], dim=1)

    def beside(part: Conditioning) -> Conditioning:
        negative = None if part.negative is None else replace(part.negative, image_tokens=empty)
        return replace(part, image_tokens=tokens, negative=negative)

    return with_denoiser(plain, networks, image_prompts=looks), conditioning.each(beside)


def _pixels(image: Image.Image, side: int) -> Tensor:
    """The centre crop of a picture [1 3 side side], normalised for CLIP as by its own processor."""
    short = min(image.size)
    width, height = (int(side * length / short) for length in image.size)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    square = np.asarray(resized.crop((left, top, left + side, top + side))) / 255
    pixels = (square - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
    return torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
