"""The networks of unCLIP: their presets, and the decoder as a `guidance.Network`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import PriorTransformer, UNet2DConditionModel
from torch import Tensor

from danqing.core.card import Can, Card
from danqing.core.painter import Conditioning
from danqing.diffusion.prior import PriorOptions
from danqing.families.dalle2.folder import Dalle2Components
from danqing.nets.efficient_unet import EfficientUNet, EfficientUNetConfig
from danqing.nets.placement import as_input, to_float32
from danqing.nets.unclip import TextProjection
from danqing.weights.pretrained import Config

PRIORS: dict[str, Config] = {
    "tiny": {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 2,
        "embedding_dim": 32,
        "num_embeddings": 12,
    },
    "sticker": {
        "num_attention_heads": 6,
        "attention_head_dim": 32,
        "num_layers": 2,
        "embedding_dim": 192,
        "num_embeddings": 24,
    },
    "karlo": {
        "num_attention_heads": 32,
        "attention_head_dim": 64,
        "num_layers": 20,
        "embedding_dim": 768,
        "num_embeddings": 77,
    },
}

_DOWN, _DOWN_TEXT = "DownBlock2D", "CrossAttnDownBlock2D"
_UP, _UP_TEXT = "UpBlock2D", "CrossAttnUpBlock2D"

DECODERS: dict[str, Config] = {
    "tiny": {
        "sample_size": 8,
        "in_channels": 16,
        "out_channels": 16,
        "block_out_channels": (8, 16),
        "down_block_types": (_DOWN, _DOWN_TEXT),
        "up_block_types": (_UP_TEXT, _UP),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "class_embed_type": "identity",
    },
    # the outer convolutions are those of the sticker preset of `ddpm`, so that training can start from it
    "sticker": {
        "sample_size": 16,
        "in_channels": 16,
        "out_channels": 16,
        "block_out_channels": (64, 128, 128),
        "down_block_types": (_DOWN, _DOWN_TEXT, _DOWN),
        "mid_block_type": "UNetMidBlock2D",
        "up_block_types": (_UP, _UP, _UP),
        "layers_per_block": 1,
        "cross_attention_dim": 128,
        "attention_head_dim": 4,  # diffusers reads this as the number of heads
        "norm_num_groups": 16,
        "class_embed_type": "identity",
    },
    "karlo": {
        "sample_size": 64,
        "in_channels": 3,
        "out_channels": 6,
        "block_out_channels": (320, 640, 960, 1280),
        "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
        "layers_per_block": 3,
        "cross_attention_dim": 1536,
        "attention_head_dim": 64,
        "class_embed_type": "identity",
        "resnet_time_scale_shift": "scale_shift",
    },
}

PRIOR_SCHEDULE: Config = {
    "_class_name": "UnCLIPScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "sample",
    "variance_type": "fixed_small_log",
    "clip_sample": True,
    "clip_sample_range": 5.0,
}

DECODER_SCHEDULE: Config = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "variance_type": "fixed_small",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": False,
    "clip_sample": True,
    "clip_sample_range": 1.0,
}


PATCH_SIZES = {"tiny": 2, "sticker": 2, "karlo": 1}

# without text, as in the paper, and without attention, so that training on crops is enough
UPSAMPLERS: dict[str, EfficientUNetConfig] = {
    "tiny": EfficientUNetConfig(
        concat_channels=4, text=1, widths=(4, 8), depths=(0, 1), attention=(False, False), embedding=16
    ),
    "sticker": EfficientUNetConfig(
        concat_channels=4, text=1, widths=(16, 48, 64), depths=(0, 1, 1), attention=(False,) * 3, embedding=96
    ),
}


@dataclass(frozen=True)
class Decoder:
    """The UNet as a `guidance.Network` of an image embedding and a prompt.

    A conditioning has tokens [n 1+l+1 d]: the image embedding, l token states, and the text embedding. Where
    the image embedding is masked, a learned embedding of no image replaces it.

    unet: the network.
    projection: projects the embeddings for the network.
    patch_size: side in pixels of the patches that are one pixel of more channels to the UNet.
    """

    unet: UNet2DConditionModel
    projection: TextProjection
    patch_size: int = 1

    def __call__(self, x: Tensor, t: Tensor, words: Conditioning) -> Tensor:
        """Pictures [n c h w], times [n] and the conditioning of n pictures -> output [n c h w]."""
        mask = torch.ones_like(words.tokens[..., 0], dtype=torch.bool) if words.mask is None else words.mask
        tokens = as_input(self.projection, words.tokens)
        picture = torch.where(mask[:, :1], tokens[:, 0], self.projection.nothing)
        context, added = self.projection(picture, tokens[:, -1], tokens[:, 1:-1])
        extra = self.projection.config.clip_extra_context_tokens
        output: Tensor = self.unet(
            as_input(self.unet, F.pixel_unshuffle(x, self.patch_size)),
            t,
            encoder_hidden_states=context,
            class_labels=added,
            encoder_attention_mask=F.pad(mask[:, 1:-1], (extra, 0), value=True),
            return_dict=False,
        )[0]
        return F.pixel_shuffle(to_float32(output), self.patch_size)


def decoder_conditioning(conditioning: Conditioning, z: Tensor) -> Conditioning:
    """The conditioning of a `Decoder`: `z` before the prompt, no image before the negative prompt.

    conditioning: for n pictures.
    z: image embeddings [n d].
    """

    def with_embedding(part: Conditioning) -> Conditioning:
        negative = (
            None if part.negative is None else _prepend(part.negative, torch.zeros_like(z), attend=False)
        )
        return replace(_prepend(part, z, attend=True), negative=negative, image=None, concat=None)

    return conditioning.each(with_embedding)


def _prepend(part: Conditioning, z: Tensor, *, attend: bool) -> Conditioning:
    mask = torch.ones_like(part.tokens[..., 0], dtype=torch.bool) if part.mask is None else part.mask
    first = torch.full_like(mask[:, :1], attend)
    return replace(
        part, tokens=torch.cat([z[:, None], part.tokens], dim=1), mask=torch.cat([first, mask], dim=1)
    )


def fresh_projection(decoder: UNet2DConditionModel, width: int) -> TextProjection:
    """A projection with random weights, from embeddings of `width` to the inputs of a decoder."""
    config = decoder.config
    return TextProjection.from_config(
        {
            "clip_embeddings_dim": width,
            "time_embed_dim": 4 * config.block_out_channels[0],
            "cross_attention_dim": config.cross_attention_dim,
        }
    )


def dalle2_card(name: str, decoder: UNet2DConditionModel, patch_size: int, factor: int = 1) -> Card:
    """The card of a model from its decoder, whose pictures are upscaled by `factor`."""
    side = decoder.config.sample_size * patch_size * factor
    alpha = {Can.ALPHA} if decoder.config.in_channels == 4 * patch_size**2 else set()
    tile = {Can.TILE} if factor == 1 else set()  # the upsampler does not pad circularly
    return Card(
        name=name,
        family="dalle2",
        summary=f"an unCLIP for pictures of {side} x {side}",
        paper="2204.06125",
        year=2022,
        licence="Apache-2.0",
        width=side,
        height=side,
        size_multiple=side,
        steps=20,
        guidance=3.0,
        can=frozenset({Can.WORDS, Can.NEGATIVE, Can.REDRAW} | alpha | tile),
    )


def fresh_components(preset: str, clip: str, seed: int = 0) -> Dalle2Components:
    """Networks with random initial weights for training; the seed determines them.

    clip: as in `Dalle2Components`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = PriorTransformer(**PRIORS[preset])
        decoder = UNet2DConditionModel(**DECODERS[preset])
        projection = fresh_projection(decoder, prior.config.embedding_dim)
        upsampler = EfficientUNet(UPSAMPLERS[preset]) if preset in UPSAMPLERS else None
    return Dalle2Components(
        card=dalle2_card(preset, decoder, PATCH_SIZES[preset], 1 if upsampler is None else 2),
        prior=prior,
        prior_schedule=PRIOR_SCHEDULE,
        decoder=decoder,
        projection=projection,
        decoder_schedule=DECODER_SCHEDULE,
        clip=clip,
        patch_size=PATCH_SIZES[preset],
        prior_options=PriorOptions(steps=10, guidance=1.5),
        upsampler=upsampler,
    )
