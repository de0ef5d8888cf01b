"""Pictures as prompts: an IP-Adapter, and the image encoder that it reads with (arXiv 2308.06721)."""

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
    """A picture that a painter shall look at.

    adapter: looks.
    tokens: of the picture [1 k d]. empty: of none, which stand beside the negative prompt.
    strength: 0 is not at all, 1 is as it learned.
    start, end: the share of the steps between which it looks, in [0, 1].
    layers: which of the layers that read words look at it; None is all.
    """

    adapter: IPAdapter
    tokens: Tensor
    empty: Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    layers: frozenset[int] | None = None


def layers_for(painter: Painter, part: str) -> frozenset[int] | None:
    """The layers that take the style or the layout of a picture, as found in arXiv 2404.02733; None for all.

    Raises:
        BadBrief: the painter is not Stable Diffusion XL, in which alone they are known.
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
    """The IP-Adapter in a file, where the painter is and in its numbers.

    Raises:
        BadBrief: the painter takes none. BadWeights: it is something else, or is for another model.
    """
    unet = as_stable_diffusion(painter).modules["unet"]
    adapter = read_ip_adapter(place, unet)
    place_beside(unet, adapter)
    return adapter


def open_image_encoder(place: Path, painter: Painter) -> CLIPVisionModelWithProjection:
    """The image encoder in a folder or file, where the painter is and in its numbers.

    Raises:
        BadBrief: the painter takes no image prompts. BadWeights: it cannot be read.
    """
    encoder = read_image_encoder(place)
    place_beside(as_stable_diffusion(painter).modules["unet"], encoder)
    return encoder


@torch.no_grad()
def tokens_of(
    image: Image.Image, adapter: IPAdapter, encoder: CLIPVisionModelWithProjection
) -> tuple[Tensor, Tensor]:
    """What an IP-Adapter makes of an RGB picture, and of none: tokens [1 k d].

    Where it reads the whole picture, none is zeros; where it reads patches, it is a picture of zeros.
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
    """The painter as it looks at pictures, and the words of a brief with these beside them.

    Raises:
        BadBrief: it takes none.
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
    """The middle square of a picture as CLIP takes it [1 3 side side], as its own processor cuts it."""
    short = min(image.size)
    width, height = (int(side * length / short) for length in image.size)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    square = np.asarray(resized.crop((left, top, left + side, top + side))) / 255
    pixels = (square - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
    return torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
